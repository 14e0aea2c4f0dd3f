/* SPDX-License-Identifier: Apache-2.0 */
/* What fracgpud's files share.
 *
 * fracgpud takes listeners from OCI runtimes (opencontainers/runtime-spec, config-linux.md, seccomp), decides the limit
 * of the container, and starts one process that serves it. That process lives as long as the container and needs nothing
 * of fracgpud, which keeps no state: it can end, also by SIGKILL, and be started anew at any time. So it is with slices that
 * `fracgpu create` makes, which containers join. */
#ifndef FG_DAEMON_DAEMON_H
#define FG_DAEMON_DAEMON_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/error.h"
#include "cli/runtime.h"
#include "daemon/metrics.h"
#include "supervisor/supervisor.h"
#include "wire/wire.h"

/* The host's policy: /etc/fracgpu/fracgpud.conf. */
enum { CONFIG_RULES = 256 };

enum daemon_rule_kind {
	RULE_CONTAINER,		/* [container GLOB]: its id */
	RULE_POD,		/* [pod GLOB]: NAMESPACE/NAME */
	RULE_USER		/* [user UID] */
};

struct daemon_rule {
	enum daemon_rule_kind kind;
	uid_t uid;
	char glob[256];
	struct wire_terms terms;
};

struct daemon_config {
	char memory[WIRE_LIMIT];	/* [default] memory: for containers that ask for nothing; "": the whole of each GPU */
	char max[WIRE_LIMIT];		/* [default] max: the most that a container may ask for; "": the whole of each GPU */
	char compute[WIRE_SHARE];	/* [default] compute, likewise; "": no cap */
	char max_compute[WIRE_SHARE];	/* [default] max-compute */
	bool overcommit;		/* [default] overcommit */
	bool kill_on_breach;		/* [default] on-breach = kill */
	struct metrics_config metrics;	/* [default] metrics, metrics_names, metrics_step */
	bool has_users;			/* there is a [user UID]: others than root may connect */
	bool has_pods;			/* there is a [pod GLOB] */
	unsigned int rule_count;
	struct daemon_rule rules[CONFIG_RULES];
};

/* Read it; a file that is not there is an empty one. Returns 0, -EPERM when others than root may write to it, or -EINVAL;
 * err names the line. */
int config_load(const char *path, struct daemon_config *ret_config, struct error *err);

/* One hand-off. */
struct handoff {
	int listener;
	uid_t uid;		/* of the peer, as the kernel says */
	pid_t pid;		/* of the container's process; 0: not said (crun exec) */
	char id[256];
	char status[32];	/* of the runtime specification; or "create": `fracgpu create` asks for a slice of name id */
	char bundle[PATH_MAX];	/* "": not said */
	char metadata[WIRE_METADATA];
	bool is_open;		/* create: any container may ask to be in it */
	json_t *annotations;	/* or NULL */
};

/* Read a hand-off's JSON. The strings come from whoever could connect. Returns 0, -EAGAIN when the text is not complete
 * yet, or -EINVAL with a sentence in err. */
int handoff_parse(const char *text, size_t size, struct handoff *h, struct error *err);
void handoff_done(struct handoff *h);

/* What a container gets. */
struct decision {
	bool is_given;		/* by the host's policy or a profile; else it was asked for */
	struct wire_terms terms;	/* terms.slice: it is in that slice, and the rest says nothing */
	char cap[WIRE_LIMIT];	/* what the limit must not pass on any GPU ("": its size) */
};

/* Trusted in this order: the host's policy for the container; what a profile gives, of a root peer, or a device of
 * `fracgpu cdi`; what its environment and then its annotations ask for, up to the host's most. Other users get what the
 * policy says for them, and nothing without one. Returns 0, -EPERM or -EINVAL. */
int decide(const struct daemon_config *config, const struct handoff *h, struct decision *ret_decision, struct error *err);

/* Whether the container's first process, which waits, has a filter that asks about all that is the driver's. It is read
 * from the kernel (PTRACE_SECCOMP_GET_FILTER) and tried on every call of the tables in every way to make one.
 * Returns 0, -EPERM when some call would not be asked about, or negative errno; err names the call. */
int filter_check(pid_t pid, struct error *err);

/* The name of the container's slice: the first 12 letters of a long hexadecimal id, as docker ps shows it. */
void slice_name_of(const struct handoff *h, char ret_name[SLICE_NAME]);

/* Hand the listener to the process that serves the container, or start that process. Takes the listener over.
 * Returns 0 when calls are served, or negative errno with a sentence in err. */
int slice_hand_over(const struct daemon_config *config, struct handoff *h, struct error *err);

/* Make the slice that `fracgpu create` asks for: it has no container yet. Returns 0 or negative errno. */
int slice_create(const struct daemon_config *config, struct handoff *h, struct error *err);

/* Answer who asked for it: one line of JSON. */
void slice_answer(int peer, int result, const struct error *err);

/* The same process, in the child: serve a container (h->listener), or a slice without one. *report is closed once calls
 * are served. Returns when the slice has ended, or negative errno. */
int slice_serve(const struct daemon_config *config, const struct handoff *h, const struct decision *decision, int *report,
		struct error *err);

/* What a slice's directory says of it, and, in files of containers that are in it, of those. */
enum { IDENTITY_PATH = RUNTIME_PATH + 2 * SLICE_NAME + 16 };

struct identity {
	char id[256];		/* of the container, or the slice's name */
	uid_t uid;
	bool is_standing;	/* made by `fracgpu create` */
	bool is_open;
};

/* DIR/container, or, with a name, DIR/in-NAME. Returns 0, -ENOENT or -EINVAL. */
int identity_read(const char *dir, const char *name, struct identity *ret_identity);
int identity_write(const char *dir, const char *name, const struct identity *identity, pid_t pid, const json_t *annotations);
void identity_forget(const char *dir, const char *name);

/* The address of the socket of a slice that takes messages (supervisor.h). Returns 0 or -ENAMETOOLONG. */
int agent_address(const char *dir, struct sockaddr_un *ret_address, struct error *err);

/* Send one. listener -1: none. Returns what it answers: 0 or negative errno; -ENOENT when nobody serves the slice. */
int agent_send(const char *dir, const struct supervisor_message *message, int listener, struct error *err);

#endif
