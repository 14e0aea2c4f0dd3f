/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks by the form of a call: other ways into the kernel, other bits, other numbers, classes and
 * functions. */
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "attack.h"

static struct test_rm rm;

/* ---- ways into the kernel ---- */

static int finish(long result)
{
	if (result >= 0)
		return (int)result;
	errno = (int)-result;
	return -1;
}

static int raw_ioctl(int fd, unsigned long request, void *argument)
{
#if defined(__x86_64__)
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)SYS_ioctl), "D"((long)fd), "S"(request), "d"(argument)
			 : "rcx", "r11", "memory");
	return finish(result);
#else
	return (int)syscall(SYS_ioctl, fd, request, argument);
#endif
}

/* Type and direction, which the driver never looks at, are others at each call. */
static int bits_ioctl(int fd, unsigned long request, void *argument)
{
	static unsigned long bits;

	bits = bits * 1103515245 + 12345;
	if (!(request >> 16 & 0x3fff))
		return ioctl(fd, (int)request, argument); /* UVM compares all of it */
	request ^= bits & 0xc000ff00;
	return ioctl(fd, request, argument);
}

/* The kernel cuts a request to 32 bits. */
static int high_ioctl(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request | 0xdeadbeef00000000ul, argument);
}

static int xfer_ioctl(int fd, unsigned long request, void *argument)
{
	uint8_t xfer[16] = { 0 };

	put_u32(xfer, 0, abi_request_nr((uint32_t)request));
	put_u32(xfer, 4, abi_request_size((uint32_t)request));
	put_u64(xfer, 8, (uintptr_t)argument);
	return ioctl(fd, abi_request(NV_ESC_IOCTL_XFER_CMD, sizeof(xfer)), xfer);
}

#if defined(__x86_64__)
static int x32_ioctl(int fd, unsigned long request, void *argument)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(0x40000000l | 514), "D"((long)fd), "S"(request), "d"(argument)
			 : "rcx", "r11", "memory");
	return finish(result);
}

/* Native number without the bit: what Linux before 5.7 took, too. */
static int x32_bare_ioctl(int fd, unsigned long request, void *argument)
{
	return (int)syscall(514, fd, request, argument);
}

/* 64-bit numbers behind the x32 bit. */
static int x32_native_ioctl(int fd, unsigned long request, void *argument)
{
	return (int)syscall(0x40000000l | SYS_ioctl, fd, request, argument);
}

static long int80(long nr, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "0"(nr), "b"(a), "c"(b), "d"(c)
			 : "r8", "r9", "r10", "r11", "memory");
	return (int)result;
}

/* The argument goes through memory below 4 GiB: registers have 32 bits there. What it points to may lie
 * anywhere. */
static int int80_ioctl(int fd, unsigned long request, void *argument)
{
	static void *low;
	uint32_t size = abi_request_size((uint32_t)request);
	long result;

	if (!low)
		low = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
			   0);
	CHECK(low != MAP_FAILED);
	memcpy(low, argument, size);
	result = int80(54, fd, (long)(uint32_t)request, (long)(uintptr_t)low);
	memcpy(argument, low, size);
	return finish(result);
}

/* Whether the kernel takes int 0x80 at all: a child that has to die tells. */
static bool has_int80(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(int80(20, 0, 0, 0) == getpid() ? 0 : 1);
	CHECK_EQUAL(waitpid(pid, &status, 0), pid);
	return status == 0;
}
#endif

/* Opened as usual, so that the way need not be there. */
static void fill_through(int (*way)(int fd, unsigned long request, void *argument))
{
	int (*usual)(int fd, unsigned long request, void *argument) = test_rm_ioctl;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	test_rm_ioctl = way;
	say_bytes("got", fill(&rm));
	test_rm_ioctl = usual;
}

static void plain(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	say_bytes("got", fill(&rm));
}

static void raw(void)
{
	fill_through(raw_ioctl);
}

static void bits(void)
{
	fill_through(bits_ioctl);
}

static void high(void)
{
	fill_through(high_ioctl);
}

static void xfer(void)
{
	fill_through(xfer_ioctl);
	rm.ctl = rm.gpu; /* the other files take it, too */
	say_bytes("got", fill(&rm));
}

#if defined(__x86_64__)
static void i386(void)
{
	if (!has_int80()) {
		puts("absent: this kernel has no int 0x80");
		return;
	}
	fill_through(int80_ioctl);
}

static void x32(void)
{
	uint8_t version[72] = { '2' };

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	if (x32_ioctl(rm.ctl, abi_request(NV_ESC_CHECK_VERSION_STR, sizeof(version)), version) < 0 &&
	    errno == ENOSYS)
		puts("absent: this kernel has no x32");
	fill_through(x32_ioctl);
	fill_through(x32_bare_ioctl);
	fill_through(x32_native_ioctl);
}
#else
static void i386(void)
{
	puts("absent: another processor");
}

static void x32(void)
{
	puts("absent: another processor");
}
#endif

/* ---- what is asked for ---- */

/* Sizes that overflow, wrap, or pass the limit by one. What they leave is given back at the end. */
static void sizes(void)
{
	static const uint64_t tried[] = { 0,
					  1,
					  LIMIT - 1,
					  LIMIT + 1,
					  2 * LIMIT,
					  UINT64_MAX,
					  UINT64_MAX - 65535,
					  UINT64_C(1) << 63,
					  UINT64_MAX - LIMIT,
					  3 * LIMIT };

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		uint64_t bytes = tried[i];

		test_rm_vidmem(&rm, &bytes, NULL);
	}
	fill_anew(&rm);
}

/* All functions of the older interface, in all forms that could be memory. */
static void heap(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (uint32_t function = 0; function < 32; function++) {
		for (int i = 0; i < TRIES; i++) {
			uint64_t bytes = CHUNK;
			uint32_t object = 0;

			if (test_rm_heap_alloc(&rm, function, &bytes, &object) != NV_OK)
				break;
		}
	}
	say_bytes("then got", fill(&rm));
}

/* Where memory is to lie, and other attributes: whatever stands there, video memory is counted. */
static void heap_attributes(void)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (uint32_t bit = 0; bit < 32; bit++) {
		for (int field = 0; field < 3; field++) {
			static const uint32_t at[] = { HEAP_FLAGS, HEAP_ATTR, 144 };
			uint8_t args[HEAP_SIZE] = { 0 };

			put_u32(args, HEAP_ROOT, rm.client);
			put_u32(args, HEAP_PARENT, rm.device);
			put_u32(args, HEAP_FUNCTION, HEAP_FUNCTION_ALLOC_SIZE);
			put_u32(args, HEAP_MEMORY, 0xa0000000u + bit * 4 + (uint32_t)field);
			put_u32(args, at[field], 1u << bit);
			put_u64(args, HEAP_BYTES, CHUNK);
			test_rm_call(rm.ctl, NV_ESC_RM_VID_HEAP_CONTROL, args, sizeof(args));
		}
	}
	say_bytes("then got", fill(&rm));
}

/* NVOS02 with a descriptor, which is not what NVOS21 is. */
static void alloc_memory(void)
{
	enum { SIZE = 56, CLASS = 12, FLAGS = 16, MEMORY = 24, BYTES = 32, STATUS = 40 };
	static const uint32_t classes[] = { 0x40, 0x3f, 0x42, 0x81, 0x82, 0x83, 0xc2, 0x50a0 };

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (size_t c = 0; c < sizeof(classes) / sizeof(classes[0]); c++) {
		for (int on_gpu = 0; on_gpu < 2; on_gpu++) {
			uint8_t args[SIZE] = { 0 };
			int r;

			put_u32(args, 0, rm.client);
			put_u32(args, 4, rm.device);
			put_u32(args, CLASS, classes[c]);
			put_u64(args, BYTES, CHUNK);
			r = test_rm_call(on_gpu ? rm.gpu : rm.ctl, NV_ESC_RM_ALLOC_MEMORY, args,
					 sizeof(args));
			CHECK(r < 0 || get_u32(args, STATUS) != NV_OK);
		}
	}
	say_bytes("then got", fill(&rm));
}

static bool is_for_tenants(const struct abi_row *row)
{
	return row && row->effect != ABI_REFUSE;
}

/* Classes without a row, and those that no tenant may have. Root, too, must not get them: the supervisor is
 * root then. */
static void classes(void)
{
	uint32_t random = 1;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (uint32_t i = 0; i < 2048; i++) {
		uint8_t params[4096] = { 0 };
		uint32_t object = 0;
		uint32_t class_id = i;

		if (i >= 512) {
			random = random * 1103515245 + 12345;
			class_id = random >> 16;
		}
		put_u64(params, MEMORY_BYTES, CHUNK);
		if (!is_for_tenants(abi_class_find(class_id)))
			CHECK(test_rm_alloc(&rm, rm.client, i & 1 ? rm.subdevice : rm.device, &object,
					    class_id, params) != NV_OK);
	}
	say_bytes("then got", fill(&rm));
}

static void refused_classes(void)
{
	size_t count;
	const struct abi_row *rows = abi_classes(&count);
	uint32_t refused = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (size_t i = 0; i < count; i++) {
		uint32_t parents[] = { rm.client, rm.device, rm.subdevice };

		for (int p = 0; rows[i].effect == ABI_REFUSE && p < 3; p++) {
			uint8_t params[4096] = { 0 };
			uint32_t object = 0;

			put_u64(params, MEMORY_BYTES, CHUNK);
			CHECK(test_rm_alloc(&rm, rm.client, parents[p], &object, rows[i].number, params) !=
			      NV_OK);
			CHECK(test_rm_alloc_short(&rm, rm.client, parents[p], &object, rows[i].number,
						  params) != NV_OK);
			refused++;
		}
	}
	CHECK(refused >= 3 * 10);
	say_bytes("then got", fill(&rm));
}

static void refused_controls(void)
{
	size_t count;
	const struct abi_row *rows = abi_controls(&count);
	uint32_t refused = 0;

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (size_t i = 0; i < count; i++) {
		uint32_t objects[] = { rm.client, rm.device, rm.subdevice };

		for (int o = 0; rows[i].effect == ABI_REFUSE && o < 3; o++) {
			uint8_t params[4096] = { 0 };

			CHECK(test_rm_control(&rm, rm.client, objects[o], rows[i].number, params,
					      rows[i].size) != NV_OK);
			refused++;
		}
	}
	CHECK(refused >= 3 * 10);
	say_bytes("then got", fill(&rm));
}

/* Numbers and sizes without a row, on each file. */
static void unknown_calls(void)
{
	static const uint32_t sizes[] = { 0, 4, 16, 28, 32, 40, 48, 56, 184, 4096 };
	static uint8_t args[16384];

	open_all(&rm);
	for (uint32_t nr = 0; nr < 256; nr++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			uint32_t request = abi_request(nr, sizes[i]);
			const struct abi_call *on_ctl = abi_call_find(&rm.layout, ABI_DEV_CTL, request);
			const struct abi_call *on_gpu = abi_call_find(&rm.layout, ABI_DEV_GPU, request);

			/* without a size a call is the driver's alone: it has none (supervisor/filter.h) */
			if (!sizes[i] && ((on_ctl && !on_ctl->size) || (on_gpu && !on_gpu->size)))
				continue;
			memset(args, 0, sizeof(args));
			if (!on_ctl || on_ctl->effect == ABI_REFUSE)
				CHECK(test_rm_ioctl(rm.ctl, request, args) < 0);
			if (!on_gpu || on_gpu->effect == ABI_REFUSE)
				CHECK(test_rm_ioctl(rm.gpu, request, args) < 0);
		}
		if (!is_for_tenants(abi_uvm_find(nr)))
			CHECK(test_rm_ioctl(rm.uvm, nr, args) < 0);
	}
	say_bytes("then got", fill(&rm));
}

/* Bits that make another message of the same bytes. */
static void flags(void)
{
	uint8_t params[2048] = { 0 }, args[ALLOC_LONG_MAX] = { 0 };

	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	put_u64(params, MEMORY_BYTES, 2 * LIMIT);
	put_u32(args, ALLOC_ROOT, rm.client);
	put_u32(args, ALLOC_PARENT, rm.device);
	put_u32(args, ALLOC_CLASS, 0x40);
	put_u64(args, ALLOC_PARAMS, (uintptr_t)params);
	for (uint32_t flag = 1; flag <= 8; flag *= 2) {
		put_u32(args, rm.layout.alloc_long_flags, flag);
		CHECK_EQUAL(test_rm_call(rm.ctl, NV_ESC_RM_ALLOC, args, rm.layout.alloc_long_size), 0);
		CHECK(get_u32(args, rm.layout.alloc_long_status) != NV_OK);
	}
	for (uint32_t flag = 1; flag <= 8; flag *= 2) {
		uint8_t control[CONTROL_SIZE] = { 0 };

		put_u32(control, CONTROL_CLIENT, rm.client);
		put_u32(control, CONTROL_OBJECT, rm.subdevice);
		put_u32(control, CONTROL_COMMAND, NV2080_CTRL_CMD_FB_GET_INFO_V2);
		put_u32(control, CONTROL_FLAGS, flag);
		put_u64(control, CONTROL_PARAMS, (uintptr_t)params);
		put_u32(control, CONTROL_PARAMS_SIZE, rm.layout.fb_info_v2_size);
		CHECK_EQUAL(test_rm_call(rm.ctl, NV_ESC_RM_CONTROL, control, sizeof(control)), 0);
		CHECK(get_u32(control, CONTROL_STATUS) != NV_OK);
	}
	say_bytes("then got", fill(&rm));
}

/* Objects without number; all of them go with their client, and nothing is lost. */
static void many_objects(uint32_t count)
{
	CHECK_EQUAL(test_rm_open(&rm, 0), NV_OK);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t params[SUBDEVICE_ALLOC_SIZE] = { 0 };
		uint32_t object = 0;

		CHECK_EQUAL(test_rm_alloc(&rm, rm.client, rm.device, &object, 0x2080, params), NV_OK);
	}
	CHECK_EQUAL(fill(&rm), LIMIT);
	fill_anew(&rm);
}

static void objects(void)
{
	many_objects(100000);
}

static void some_objects(void)
{
	many_objects(10000);
}

static const struct attack attacks[] = {
	{ "plain", plain },
	{ "raw", raw },
	{ "bits", bits },
	{ "high", high },
	{ "xfer", xfer },
	{ "i386", i386 },
	{ "x32", x32 },
	{ "sizes", sizes },
	{ "heap", heap },
	{ "heap-attributes", heap_attributes },
	{ "alloc-memory", alloc_memory },
	{ "classes", classes },
	{ "refused-classes", refused_classes },
	{ "refused-controls", refused_controls },
	{ "unknown-calls", unknown_calls },
	{ "flags", flags },
	{ "objects", objects },
	{ "some-objects", some_objects },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return attack_main(attacks, argc, argv);
}
