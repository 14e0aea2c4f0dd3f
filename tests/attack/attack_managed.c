/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks with managed memory: a mapping of nvidia-uvm is memory as long as it is there, whoever unmaps or
 * moves it, and by whatever call. */
#include <fcntl.h>
#include <sys/syscall.h>

#include "attack.h"

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif

enum { PIECES = 40 };

static struct test_rm rm;

static void *raw_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, address, length, prot, flags, fd, offset);
}

static void *validating_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return mmap(address, length, prot, (flags & ~MAP_TYPE) | MAP_SHARED_VALIDATE, fd, offset);
}

/* Managed chunks until one is refused. */
static uint64_t fill_managed(void *pieces[PIECES])
{
	uint64_t sum = 0;

	for (int i = 0; i < PIECES; i++) {
		void *piece = test_managed(&rm, CHUNK);

		if (!piece)
			break;
		if (pieces)
			pieces[i] = piece;
		sum += CHUNK;
	}
	look();
	say_bytes("managed", sum);
	return sum;
}

static void plain(void)
{
	open_all(&rm);
	CHECK_EQUAL(fill_managed(NULL), LIMIT);
	CHECK_EQUAL(fill(&rm), 0);
}

static void raw(void)
{
	open_all(&rm);
	test_rm_mmap = raw_mmap;
	fill_managed(NULL);
}

static void validate(void)
{
	open_all(&rm);
	test_rm_mmap = validating_mmap;
	fill_managed(NULL);
}

/* Both kinds share the limit. */
static void mixed(void)
{
	open_all(&rm);
	for (int i = 0; i < PIECES / 2; i++) {
		uint64_t bytes = CHUNK;

		test_managed(&rm, CHUNK);
		test_rm_vidmem(&rm, &bytes, NULL);
	}
	look();
}

/* The same file, by other descriptors and names. */
static void reopened(void)
{
	char path[64];

	open_all(&rm);
	for (int i = 0; i < PIECES; i++) {
		int fd = rm.uvm;

		if (i % 2) {
			snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			rm.uvm = open(path, O_RDWR | O_CLOEXEC);
		} else {
			rm.uvm = dup(fd);
		}
		CHECK(rm.uvm >= 0);
		test_managed(&rm, CHUNK);
	}
	look();
}

static void *at(uint64_t place)
{
	return (void *)(uintptr_t)place;
}

static bool map_at(uint64_t place, uint64_t length)
{
	return mmap(at(place), length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, rm.uvm,
		    (off_t)place) != MAP_FAILED;
}

/* Over itself, in larger and smaller pieces: never counted twice, never forgotten. */
static void over_itself(void)
{
	uint64_t place;

	open_all(&rm);
	place = find_place(LIMIT);
	CHECK(map_at(place, LIMIT / 2));
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t start = place + i % 7 * (64 * MIB), length = (1 + i % 4) * 32 * MIB;

		CHECK(map_at(start, length));
		if (i % 3 == 0)
			munmap(at(start + length / 2), length / 4);
	}
	look();
	fill_managed(NULL);
	CHECK_EQUAL(munmap(at(place), LIMIT), 0);
	fill_managed(NULL);
}

/* Unmapped in parts from both ends and the middle; what is given back can be had again, and no more. */
static void in_parts(void)
{
	void *pieces[PIECES] = { NULL };

	open_all(&rm);
	CHECK_EQUAL(fill_managed(pieces), LIMIT);
	for (int i = 0; i < (int)(LIMIT / CHUNK); i++) {
		char *piece = pieces[i];

		/* half of each: a quarter in the middle, an eighth at each end */
		CHECK_EQUAL(munmap(piece + CHUNK / 8 * 3, CHUNK / 4), 0);
		CHECK_EQUAL(munmap(piece, CHUNK / 8), 0);
		CHECK_EQUAL(munmap(piece + CHUNK / 8 * 7, CHUNK / 8), 0);
	}
	CHECK_EQUAL(fill_managed(NULL), LIMIT / 2);
	CHECK_EQUAL(fill(&rm), 0);
}

/* Given back behind the door's back. */
static void raw_munmap(void)
{
	void *pieces[PIECES] = { NULL };

	open_all(&rm);
	for (int round = 0; round < 3; round++) {
		CHECK_EQUAL(fill_managed(pieces), LIMIT);
		for (int i = 0; i < (int)(LIMIT / CHUNK); i++)
			CHECK_EQUAL(syscall(SYS_munmap, pieces[i], CHUNK), 0);
	}
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* Mapped over by ordinary memory. */
static void mapped_over(void)
{
	void *pieces[PIECES] = { NULL };

	open_all(&rm);
	CHECK_EQUAL(fill_managed(pieces), LIMIT);
	for (int i = 0; i < (int)(LIMIT / CHUNK); i++)
		CHECK(mmap(pieces[i], CHUNK, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == pieces[i]);
	CHECK_EQUAL(fill(&rm), LIMIT);
}

/* Moved away by mremap(), and the place taken again: the moved one has lost its offset, so the driver has let
 * go of it. */
static void moved(void)
{
	open_all(&rm);
	for (int i = 0; i < PIECES; i++) {
		void *piece = test_managed(&rm, CHUNK);

		if (piece)
			mremap(piece, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED, at(find_place(CHUNK)));
		look();
	}
	fill_managed(NULL);
}

/* Grown in its place, and doubled by an old size of 0. */
static void grown(void)
{
	open_all(&rm);
	for (int i = 0; i < PIECES; i++) {
		void *piece = test_managed(&rm, CHUNK);

		if (!piece)
			break;
		mremap(piece, CHUNK, 2 * CHUNK, 0);
		mremap(piece, 0, CHUNK, MREMAP_MAYMOVE);
		look();
	}
	stay_if_over();
}

/* The kernel makes a mapping anew for remap_file_pages(): moved away first, it is managed memory at another
 * place. */
static void remap_pages(void)
{
	open_all(&rm);
	for (int i = 0; i < PIECES; i++) {
		uint64_t place = find_place(CHUNK);
		void *piece = test_managed(&rm, CHUNK);

		if (!piece)
			break;
		if (mremap(piece, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED, at(place)) == MAP_FAILED)
			continue;
		syscall(SYS_remap_file_pages, place, CHUNK, 0, place / 4096, 0);
		look();
	}
	look();
}

#if defined(__x86_64__)
/* mmap2 of the i386 entry, below 4 GiB: the offset is in pages there. */
static void i386(void)
{
	uint64_t got = 0;

	open_all(&rm);
	for (int i = 0; i < 24; i++) {
		long result, place = 0x20000000l + i * (long)CHUNK, pages = place / 4096;

		__asm__ volatile("push %%rbp; mov %7, %%rbp; int $0x80; pop %%rbp"
				 : "=a"(result)
				 : "0"(192l), "b"(place), "c"((long)CHUNK),
				   "d"((long)(PROT_READ | PROT_WRITE)), "S"((long)(MAP_SHARED | MAP_FIXED)),
				   "D"((long)rm.uvm), "r"(pages)
				 : "r8", "r9", "r10", "r11", "memory");
		if ((int)result > -4096 && (int)result < 0)
			break;
		got += CHUNK;
	}
	look();
	say_bytes("managed", got);
}
#else
static void i386(void)
{
	puts("absent: another processor");
}
#endif

/* Semaphore pools are mapped as managed memory is, and are none. A second file maps managed memory where the
 * first has a pool. Many processes do, and stay. */
static void pools(void)
{
	enum { PROCESSES = 24 };
	uint64_t pool_bytes = 16 * MIB;
	int ready[2], end[2];
	char c;

	CHECK_EQUAL(pipe(ready), 0);
	CHECK_EQUAL(pipe(end), 0);
	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid)
			continue;
		close(end[1]);
		open_all(&rm);
		for (int p = 0; p < 4; p++) {
			uint64_t place = find_place(pool_bytes);
			uint8_t params[9264] = { 0 };
			int pool_file = rm.uvm;

			put_u64(params, UVM_RANGE_BASE, place);
			put_u64(params, UVM_RANGE_LENGTH, pool_bytes);
			test_uvm_call(pool_file, UVM_ALLOC_SEMAPHORE_POOL, params);
			if (test_uvm_open(&rm) != NV_OK)
				rm.uvm = pool_file;
			map_at(place, pool_bytes);
		}
		CHECK_EQUAL(write(ready[1], "x", 1), 1);
		CHECK_EQUAL(read(end[0], &c, 1), 0);
		_exit(0);
	}
	for (int i = 0; i < PROCESSES; i++)
		CHECK_EQUAL(read(ready[0], &c, 1), 1);
	look();
	open_all(&rm);
	fill_managed(NULL);
	close(end[1]);
	while (wait(NULL) > 0)
		;
}

static const struct attack attacks[] = {
	{ "plain", plain },
	{ "raw", raw },
	{ "validate", validate },
	{ "mixed", mixed },
	{ "reopened", reopened },
	{ "over-itself", over_itself },
	{ "in-parts", in_parts },
	{ "raw-munmap", raw_munmap },
	{ "mapped-over", mapped_over },
	{ "moved", moved },
	{ "grown", grown },
	{ "remap-pages", remap_pages },
	{ "i386", i386 },
	{ "pools", pools },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return attack_main(attacks, argc, argv);
}
