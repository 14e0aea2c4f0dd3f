/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server. libmicrohttpd runs in the daemon's loop, without threads: what it does must be short, so
 * that containers do not wait for it. All answers are made beforehand, at most once a second, and shared by
 * whoever asks. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/history.h"
#include "daemon/metrics.h"
#include "page.h"
#include "daemon/state.h"

enum {
	CONNECTIONS = 32,
	REQUEST_BYTES = 16 << 10, /* line and headers */
	IDLE_S = 10, /* without a byte in either direction */
	DEADLINE_S = 20, /* for a request and its answer, however many bytes come */
	FRESH_MS = 1000,
	CARDS_RETRY_S = 60,
};

#define SECOND_NS UINT64_C(1000000000)

/* A connection. */
struct guest {
	int fd; /* -1: free */
	uint64_t since_ns; /* of its first byte, or of its last answer */
};

/* An answer that is made anew when it is older than FRESH_MS and somebody asks. */
struct answer {
	struct MHD_Response *response;
	uint64_t made_ns;
};

struct metrics {
	struct metrics_config config;
	struct MHD_Daemon *server;
	int epoll;
	bool is_local;
	char url[METRICS_ADDRESS + 32], node[256], runtime[RUNTIME_PATH];
	struct guest guests[CONNECTIONS];
	struct figures figures;
	uint64_t read_ns, cards_ns;
	struct history history;
	struct answer text, state;
	struct MHD_Response *page;
};

/* Looking for GPUs may wake a GPU, which takes seconds: only until there are some. */
static void find_cards(struct metrics *m, uint64_t now)
{
	struct error err;

	if (m->figures.card_count || (m->cards_ns && now - m->cards_ns < CARDS_RETRY_S * SECOND_NS))
		return;
	m->cards_ns = now;
	figures_find_cards(&m->figures, &err);
}

static void look(struct metrics *m, uint64_t now)
{
	struct error err;

	find_cards(m, now);
	if (!m->runtime[0] && runtime_path(m->runtime, &err) < 0)
		return;
	if (figures_read(&m->figures, m->runtime) == 0) {
		history_follow(&m->history, &m->figures);
		m->read_ns = now;
	}
}

static void sample(struct metrics *m, uint64_t now)
{
	if (now < history_due_ns(&m->history))
		return;
	look(m, now);
	history_sample(&m->history, &m->figures, now);
}

static void look_if_old(struct metrics *m, uint64_t now)
{
	if (!m->read_ns || now - m->read_ns > FRESH_MS * (SECOND_NS / 1000) / 2)
		look(m, now);
}

static void add_headers(struct MHD_Response *response, const char *type)
{
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "Content-Security-Policy", PAGE_POLICY);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "X-Frame-Options", "DENY");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
}

/* Takes text over; NULL is an answer that could not be made. */
static struct MHD_Response *make_response(char *text, size_t size, const char *type)
{
	struct MHD_Response *response;

	if (!text)
		return NULL;
	response = MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
	if (response)
		add_headers(response, type);
	else
		free(text);
	return response;
}

static struct MHD_Response *make_text(struct metrics *m)
{
	char *text = NULL;
	size_t size;

	if (prometheus_write(&m->figures, m->config.names, m->node, &text, &size) < 0)
		return NULL;
	return make_response(text, size, PROMETHEUS_TYPE);
}

static struct MHD_Response *make_state(struct metrics *m)
{
	json_t *state = state_json(&m->figures, &m->history, m->node, time(NULL));
	char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;

	json_decref(state);
	return make_response(text, text ? strlen(text) : 0, "application/json");
}

static struct MHD_Response *fresh(struct metrics *m, struct answer *answer,
				  struct MHD_Response *(*make)(struct metrics *m))
{
	uint64_t now = monotonic_ns();
	struct MHD_Response *response;

	if (answer->response && now - answer->made_ns < FRESH_MS * (SECOND_NS / 1000))
		return answer->response;
	look_if_old(m, now);
	response = make(m);
	if (!response)
		return NULL;
	if (answer->response)
		MHD_destroy_response(answer->response); /* who is being answered keeps it */
	answer->response = response;
	answer->made_ns = now;
	return response;
}

/* A status and one line about it. */
static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status, const char *line)
{
	struct MHD_Response *response =
		make_response(strdup(line), strlen(line), "text/plain; charset=utf-8");
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, "Allow", "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *connection, const char *path,
			      const char *method, const char *version, const char *body, size_t *body_size,
			      void **per_request)
{
	struct metrics *m = arg;
	const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
	struct MHD_Response *response;

	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "this server is read-only\n");
	if (!*per_request) {
		*per_request = m; /* an answer before the request has been read would close the connection */
		return MHD_YES;
	}
	if (m->is_local && host && !metrics_host_is_local(host))
		return refuse(connection, MHD_HTTP_FORBIDDEN,
			      "this server is for programs of its own host\n");
	if (strcmp(path, "/metrics") == 0)
		response = fresh(m, &m->text, make_text);
	else if (strcmp(path, "/api/state") == 0)
		response = fresh(m, &m->state, make_state);
	else if (strcmp(path, "/") == 0)
		response = m->page;
	else
		return refuse(connection, MHD_HTTP_NOT_FOUND, "there are /, /metrics and /api/state\n");
	if (!response)
		return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	return MHD_queue_response(connection, MHD_HTTP_OK, response);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct metrics *m = arg;
	struct guest *guest = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (guest)
			guest->fd = -1;
		return;
	}
	for (int i = 0; i < CONNECTIONS && !guest; i++) {
		if (m->guests[i].fd < 0)
			guest = &m->guests[i];
	}
	if (!guest)
		return;
	guest->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	guest->since_ns = monotonic_ns();
	*socket_context = guest;
}

static void on_answered(void *arg, struct MHD_Connection *connection, void **per_request,
			enum MHD_RequestTerminationCode code)
{
	struct guest *guest =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

	if (guest)
		guest->since_ns = monotonic_ns();
}

/* libmicrohttpd's own time limit starts anew with each byte: who sends one now and then would stay for hours.
 */
static void end_slow_guests(struct metrics *m, uint64_t now)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		struct guest *guest = &m->guests[i];

		if (guest->fd >= 0 && now - guest->since_ns > DEADLINE_S * SECOND_NS)
			shutdown(guest->fd, SHUT_RDWR);
	}
}

static int listen_at(struct metrics *m, struct error *err)
{
	struct sockaddr_storage address;
	const union MHD_DaemonInfo *info;
	socklen_t size;
	bool is_v6;
	int r = metrics_address_parse(m->config.address, &address, &size, err);

	if (r < 0)
		return r;
	is_v6 = address.ss_family == AF_INET6;
	m->is_local = metrics_is_local(&address);
	errno = 0;
	m->server = MHD_start_daemon(MHD_USE_EPOLL | (is_v6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL, answer, m,
				     MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_LIMIT,
				     (unsigned int)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
				     (unsigned int)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t)REQUEST_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, m,
				     MHD_OPTION_NOTIFY_COMPLETED, on_answered, m, MHD_OPTION_END);
	if (!m->server)
		return error_set(err, errno ? -errno : -EIO, "cannot listen at '%s': %s", m->config.address,
				 strerror(errno ? errno : EIO));
	m->epoll = MHD_get_daemon_info(m->server, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	info = MHD_get_daemon_info(m->server, MHD_DAEMON_INFO_BIND_PORT);
	if (is_v6) {
		char text[INET6_ADDRSTRLEN];
		struct sockaddr_in6 v6;

		memcpy(&v6, &address, sizeof(v6));
		inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
		snprintf(m->url, sizeof(m->url), "http://[%s]:%u/", text, info->port);
	} else {
		struct sockaddr_in v4;

		memcpy(&v4, &address, sizeof(v4));
		snprintf(m->url, sizeof(m->url), "http://%s:%u/", inet_ntoa(v4.sin_addr), info->port);
	}
	return 0;
}

/* As HAMi calls this host: NODE_NAME, which a pod gets from spec.nodeName, else the host's own name. */
static void name_node(struct metrics *m)
{
	const char *name = getenv("NODE_NAME");

	if (name)
		snprintf(m->node, sizeof(m->node), "%s", name);
	else
		gethostname(m->node, sizeof(m->node) - 1);
	for (char *c = m->node; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

int metrics_new(struct metrics **ret_metrics, const struct metrics_config *config, struct error *err)
{
	struct metrics *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(err, -ENOMEM, "out of memory");
	m->config = *config;
	for (int i = 0; i < CONNECTIONS; i++)
		m->guests[i].fd = -1;
	history_init(&m->history, config->step_s ? config->step_s : HISTORY_STEP_S);
	name_node(m);
	m->page = MHD_create_response_from_buffer(PAGE_SIZE_BYTES, (void *)page_html, MHD_RESPMEM_PERSISTENT);
	if (m->page)
		add_headers(m->page, "text/html; charset=utf-8");
	r = m->page ? listen_at(m, err) : error_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		metrics_free(m);
		return r;
	}
	*ret_metrics = m;
	return 0;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	if (m->server)
		MHD_stop_daemon(m->server);
	if (m->text.response)
		MHD_destroy_response(m->text.response);
	if (m->state.response)
		MHD_destroy_response(m->state.response);
	if (m->page)
		MHD_destroy_response(m->page);
	free(m);
}

const char *metrics_url(const struct metrics *m)
{
	return m->url;
}

int metrics_fd(const struct metrics *m)
{
	return m ? m->epoll : -1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int metrics_wait_ms(const struct metrics *m)
{
	MHD_UNSIGNED_LONG_LONG server_ms;
	uint64_t now, next;

	if (!m)
		return -1;
	now = monotonic_ns();
	next = history_due_ns(&m->history);
	if (MHD_get_timeout(m->server, &server_ms) == MHD_YES)
		next = least(next, now + server_ms * (SECOND_NS / 1000));
	for (int i = 0; i < CONNECTIONS; i++) {
		if (m->guests[i].fd >= 0)
			next = least(next, m->guests[i].since_ns + DEADLINE_S * SECOND_NS);
	}
	/* rounded up: a wait that ends too early is made again */
	return next <= now ? 0 : (int)((next - now) / (SECOND_NS / 1000)) + 1;
}

void metrics_run(struct metrics *m)
{
	uint64_t now;

	if (!m)
		return;
	now = monotonic_ns();
	sample(m, now);
	end_slow_guests(m, now);
	MHD_run(m->server);
}

void metrics_count_handoff(struct metrics *m, bool is_served)
{
	if (!m)
		return;
	if (is_served)
		m->figures.served++;
	else
		m->figures.refused++;
}
