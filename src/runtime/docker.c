/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's form of profiles, and its default. */
#include "runtime/docker.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

#if defined(__x86_64__)
static const char *const arch_names[] = { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" };
static const char arch_word[] = "amd64";
#elif defined(__aarch64__)
static const char *const arch_names[] = { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" };
static const char arch_word[] = "arm64";
#endif

static bool has(const json_t *list, const char *word)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text && strcmp(text, word) == 0)
			return true;
	}
	return false;
}

#ifdef HAVE_SECCOMP

/* Calls that the profile does not allow, or, with a capability, allows to who has it. */
static const struct {
	const char *capability, *names;
} blocked[] = {
	{ NULL, " _sysctl add_key afs_syscall bdflush break create_module ftime get_kernel_syms "
		"getpmsg gtty idle io_uring_enter io_uring_register io_uring_setup "
		"kexec_file_load kexec_load keyctl lock map_shadow_stack migrate_pages move_pages "
		"mpx nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname "
		"pciconfig_iobase pciconfig_read pciconfig_write pivot_root prof profil putpmsg "
		"query_module request_key security sgetmask ssetmask stty swapoff swapon sysfs "
		"tuxcall ulimit uselib userfaultfd ustat vm86 vm86old vserver " },
	/* under conditions, below */
	{ NULL, " clone3 personality socket " },
	{ "CAP_SYS_ADMIN", " bpf clone fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
			   "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd "
			   "setdomainname sethostname setns syslog umount umount2 unshare " },
	{ "CAP_BPF", " bpf " },
	{ "CAP_DAC_READ_SEARCH", " open_by_handle_at " },
	{ "CAP_PERFMON", " perf_event_open " },
	{ "CAP_SYSLOG", " syslog " },
	{ "CAP_SYS_BOOT", " reboot " },
	{ "CAP_SYS_CHROOT", " chroot " },
	{ "CAP_SYS_MODULE", " delete_module finit_module init_module " },
	{ "CAP_SYS_NICE", " get_mempolicy mbind set_mempolicy set_mempolicy_home_node " },
	{ "CAP_SYS_PACCT", " acct " },
	{ "CAP_SYS_PTRACE", " kcmp pidfd_getfd process_madvise " },
	{ "CAP_SYS_RAWIO", " ioperm iopl " },
	{ "CAP_SYS_TIME", " clock_settime clock_settime64 settimeofday stime " },
	{ "CAP_SYS_TTY_CONFIG", " vhangup " },
};

static bool is_blocked(const char *name)
{
	char word[64];

	if (strlen(name) + sizeof("  ") > sizeof(word))
		return true;
	word[0] = ' ';
	strcpy(word + 1, name);
	strcat(word, " ");
	for (size_t i = 0; i < COUNT(blocked); i++) {
		if (strstr(blocked[i].names, word))
			return true;
	}
	return false;
}

static void add_calls(json_t *names, uint32_t arch)
{
	enum { NUMBERS = 1024, X32_BIT = 0x40000000 };

	for (int i = 0; i < NUMBERS; i++) {
		char *name = seccomp_syscall_resolve_num_arch(arch, arch == SCMP_ARCH_X32 ? i | X32_BIT : i);

		if (name && !is_blocked(name) && !has(names, name))
			json_array_append_new(names, json_string(name));
		free(name);
	}
}

static json_t *allowed_names(void)
{
	json_t *names = json_array();

#if defined(__x86_64__)
	add_calls(names, SCMP_ARCH_X86_64);
	add_calls(names, SCMP_ARCH_X86);
	add_calls(names, SCMP_ARCH_X32);
#elif defined(__aarch64__)
	add_calls(names, SCMP_ARCH_AARCH64);
	add_calls(names, SCMP_ARCH_ARM);
#endif
	return names;
}

static void add_rule(json_t *rules, json_t *names)
{
	json_array_append_new(rules, json_pack("{s:o,s:s}", "names", names, "action", "SCMP_ACT_ALLOW"));
}

static json_t *split(const char *names)
{
	json_t *list = json_array();

	while (*(names += strspn(names, " "))) {
		size_t length = strcspn(names, " ");

		json_array_append_new(list, json_stringn(names, length));
		names += length;
	}
	return list;
}

static void add_argument_rules(json_t *rules)
{
	/* execution domains of old programs: Linux, 32 bits, no randomisation; and the question which one it
	 * is */
	static const uint32_t domains[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };
	/* CLONE_NEW* without CLONE_NEWTIME */
	enum { NEW_NAMESPACES = 0x7e020000, VSOCK = 40, NO_SUCH_CALL = 38 };

	json_array_append_new(rules, json_pack("{s:[s],s:s,s:[{s:i,s:i,s:s}]}", "names", "socket", "action",
					       "SCMP_ACT_ALLOW", "args", "index", 0, "value", VSOCK, "op",
					       "SCMP_CMP_NE"));
	for (size_t i = 0; i < COUNT(domains); i++)
		json_array_append_new(rules,
				      json_pack("{s:[s],s:s,s:[{s:i,s:I,s:s}]}", "names", "personality",
						"action", "SCMP_ACT_ALLOW", "args", "index", 0, "value",
						(json_int_t)domains[i], "op", "SCMP_CMP_EQ"));
	json_array_append_new(rules, json_pack("{s:[s],s:s,s:[{s:i,s:i,s:i,s:s}],s:{s:[s]}}", "names",
					       "clone", "action", "SCMP_ACT_ALLOW", "args", "index", 0,
					       "value", NEW_NAMESPACES, "valueTwo", 0, "op",
					       "SCMP_CMP_MASKED_EQ", "excludes", "caps", "CAP_SYS_ADMIN"));
	/* its arguments are in memory, where a filter cannot look: programs then use clone */
	json_array_append_new(rules, json_pack("{s:[s],s:s,s:i,s:{s:[s]}}", "names", "clone3", "action",
					       "SCMP_ACT_ERRNO", "errnoRet", NO_SUCH_CALL, "excludes", "caps",
					       "CAP_SYS_ADMIN"));
	json_array_append_new(rules, json_pack("{s:[s],s:s,s:{s:[s]}}", "names", "clone3", "action",
					       "SCMP_ACT_ALLOW", "includes", "caps", "CAP_SYS_ADMIN"));
}

json_t *docker_default(struct error *err)
{
	json_t *rules = json_array(), *parts = json_array();

	add_rule(rules, allowed_names());
	add_argument_rules(rules);
	for (size_t i = 0; i < COUNT(blocked); i++) {
		if (blocked[i].capability)
			json_array_append_new(rules,
					      json_pack("{s:o,s:s,s:{s:[s]}}", "names",
							split(blocked[i].names), "action", "SCMP_ACT_ALLOW",
							"includes", "caps", blocked[i].capability));
	}
	for (size_t i = 1; i < COUNT(arch_names); i++)
		json_array_append_new(parts, json_string(arch_names[i]));
	return json_pack("{s:s,s:i,s:[{s:s,s:o}],s:o}", "defaultAction", "SCMP_ACT_ERRNO", "defaultErrnoRet",
			 EPERM, "archMap", "architecture", arch_names[0], "subArchitectures", parts,
			 "syscalls", rules);
}

#else

json_t *docker_default(struct error *err)
{
	error_set(err, -ENOTSUP,
		  "this fracgpu was built without libseccomp and knows no default profile: give one with "
		  "--base");
	return NULL;
}

#endif

/* What containers have when nobody asks for more or less. */
static const char *const capabilities[] = {
	"CAP_AUDIT_WRITE", "CAP_CHOWN",	  "CAP_DAC_OVERRIDE",	  "CAP_FOWNER",	    "CAP_FSETID",
	"CAP_KILL",	   "CAP_MKNOD",	  "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",    "CAP_SETFCAP",
	"CAP_SETGID",	   "CAP_SETPCAP", "CAP_SETUID",		  "CAP_SYS_CHROOT",
};

static bool has_capability(const json_t *list, bool all)
{
	size_t found = 0;

	for (size_t i = 0; i < COUNT(capabilities); i++)
		found += has(list, capabilities[i]);
	return all ? found == json_array_size(list) : found > 0;
}

/* Whether a rule is for this processor and these capabilities. Kernels that notify are newer than all that
 * rules name. */
static bool applies(const json_t *rule)
{
	const json_t *includes = json_object_get(rule, "includes"),
		     *excludes = json_object_get(rule, "excludes");
	const json_t *arches = json_object_get(includes, "arches");

	if (json_array_size(arches) && !has(arches, arch_word))
		return false;
	if (has(json_object_get(excludes, "arches"), arch_word) ||
	    has_capability(json_object_get(excludes, "caps"), false))
		return false;
	return has_capability(json_object_get(includes, "caps"), true);
}

int docker_flatten(json_t *profile, struct error *err)
{
	json_t *rules = json_object_get(profile, "syscalls"), *rule, *names = json_array();
	size_t i = 0;

	if (rules && !json_is_array(rules)) {
		json_decref(names);
		return error_set(err, -EINVAL, "this is no seccomp profile: its syscalls are no list");
	}
	while ((rule = json_array_get(rules, i)) != NULL) {
		if (!applies(rule)) {
			json_array_remove(rules, i);
			continue;
		}
		json_object_del(rule, "includes");
		json_object_del(rule, "excludes");
		json_object_del(rule, "comment");
		i++;
	}
	for (i = 0; i < COUNT(arch_names); i++)
		json_array_append_new(names, json_string(arch_names[i]));
	if (json_object_del(profile, "archMap") == 0)
		json_object_set(profile, "architectures", names);
	json_decref(names);
	return 0;
}
