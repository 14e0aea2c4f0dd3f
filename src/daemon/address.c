/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses to listen at, as numbers: a name server must not decide where a root process listens. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics.h"

static int parse_port(const char *text, in_port_t *ret_port)
{
	unsigned long port = strtoul(text, NULL, 10);

	if (!*text || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text) || port > 65535)
		return -EINVAL;
	*ret_port = htons((uint16_t)port);
	return 0;
}

/* Cut "[V6]:PORT", "V4:PORT", ":PORT" or "PORT" in two. */
static void cut(char *text, const char **ret_address, const char **ret_port)
{
	char *colon = strrchr(text, ':');
	size_t length;

	*ret_address = "127.0.0.1";
	*ret_port = text;
	if (!colon)
		return;
	*colon = '\0';
	*ret_port = colon + 1;
	length = strlen(text);
	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		text[length - 1] = '\0';
		*ret_address = text + 1;
	} else if (length && !strchr(text, ':')) {
		*ret_address = text;
	} else if (length) {
		*ret_address = ""; /* "::1:80" may mean two things */
	}
}

int metrics_address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
			  struct error *err)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	char copy[METRICS_ADDRESS];
	const char *address, *port;

	snprintf(copy, sizeof(copy), "%s", text);
	cut(copy, &address, &port);
	if (strlen(text) < sizeof(copy) && parse_port(port, &v4.sin_port) == 0) {
		v6.sin6_port = v4.sin_port;
		memset(ret_address, 0, sizeof(*ret_address));
		if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
			memcpy(ret_address, &v4, *ret_size = sizeof(v4));
			return 0;
		}
		if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
			memcpy(ret_address, &v6, *ret_size = sizeof(v6));
			return 0;
		}
	}
	return error_set(err, -EINVAL,
			 "'%s' is no address to listen at: write 9401, 127.0.0.1:9401 or [::1]:9401", text);
}

bool metrics_is_local(const struct sockaddr_storage *address)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memcpy(&v4, address, sizeof(v4));
	memcpy(&v6, address, sizeof(v6));
	return address->ss_family == AF_INET ? ntohl(v4.sin_addr.s_addr) >> 24 == 127
					     : IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

bool metrics_host_is_local(const char *host)
{
	char copy[METRICS_ADDRESS];
	struct in_addr v4;
	char *colon;

	if (strlen(host) >= sizeof(copy))
		return false;
	snprintf(copy, sizeof(copy), "%s", host);
	colon = strrchr(copy, ':');
	if (colon && colon[1 + strspn(colon + 1, "0123456789")] == '\0')
		*colon = '\0';
	if (inet_pton(AF_INET, copy, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return strcasecmp(copy, "localhost") == 0 || strcmp(copy, "[::1]") == 0;
}
