/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that is written one way rather than another for the verifier's sake, and why it works.
 *
 * The verifier walks every path through a program, up to a million instructions. At a branch it takes one side and
 * comes back for the other; a path ends early when it reaches a state that an earlier one has covered. So it must be
 * able to prove that each access is in bounds, and must not be made to distinguish states that behave alike.
 * netns-lab/verified.py counts the instructions by program and compiler, tests/bpf/test_verified.py holds the limits.
 * bcc compiles with -mcpu=v1 and the LLVM it was built with: 14 on Debian 12; clang 16 and 19 are tested as well.
 *
 * Tools, defined below:
 *
 *   xg_hide()      the compiler forgets what it knows about a variable
 *   xg_unlearn()   the verifier forgets what it knows about a variable
 *   xg_barrier()   memory accesses stay in source order
 *   xg_within()    an index inside a table whose size is a power of two
 *   xg_same()      equality without a branch
 *
 * Habits:
 *
 * Values go through map memory. The verifier follows registers and stack slots through every branch, but knows nothing
 * about the contents of a map value. A field that is written there and read back has one state, however many paths
 * wrote it: struct xg_work, struct xg_after, struct xg_handover. Where the compiler would keep such a field in a
 * register, it is volatile (struct xg_syn_options). With its work on the stack the guard took 500,000 instructions,
 * most of them for TCP options (LLVM 14, Linux 6.18). xg_log2() counts in a volatile byte, so that its results are not
 * distinguished.
 *
 * One exit. Code that all paths lead to is called once, after a value that went through memory (xg_end()): otherwise
 * the verifier would walk a copy for each path that leads there. The same goes for results with many causes:
 * xg_parse_extensions() unlearns one length for all kinds of header, which took 154,000 instructions instead of 217,000
 * (LLVM 14, 6.18).
 *
 * Tail calls. The kernel verifies each program on its own (programs.h): as one program the three took 560,000
 * instructions with LLVM 14, 413,000 with clang 16 and 480,000 with clang 19, and too many with -mcpu=v3.
 *
 * The order of conditions. A compiler may swap two conditions that do not depend on each other; in xg_parse_udp() clang
 * 14 then produced a million instructions from the combinations. Conditions after which nothing remains known can stand
 * in any order.
 *
 * Packet pointers are compared as pointers, `at + size > end`, and an offset is masked before it is added: 63 for a
 * network header after at most two VLAN tags, 0x7fff for a transport header. The verifier accepts an added offset only
 * if it is bounded, below 64 KiB including all that follows.
 *
 * Sums in 64 bits. The verifier keeps the range of a 32-bit sum, so values that it should forget, and the `zero` used
 * for that, are u64; so are lengths that become bounds, because -mcpu=v1 has no 32-bit registers and extends each such
 * value again with two shifts.
 *
 * Copies of variable length by a helper (bpf_xdp_load_bytes(), bpf_probe_read_kernel()) need a length that is provably
 * 1 to the buffer's size: `((length - 1) & (SIZE - 1)) + 1`, see xg_copy_frame().
 *
 * A tracepoint field that holds a whole struct is copied by a helper (tcp/tcp_probe.h): clang merges loads in two
 * branches into one, at an address computed earlier, and the verifier allows no access to the context at such an
 * address.
 *
 * An array lookup cannot fail for an index in range. The verifier wants its result checked anyway.
 */
#ifndef XG_VERIFIER_H
#define XG_VERIFIER_H

#include <linux/types.h>

/*
 * Makes the compiler forget what it knows about a variable; its value stays. Otherwise clang derives one condition from
 * another, moves a bound to where the value is made, or compares a pointer in a form that the verifier does not learn
 * from (seen with LLVM 14).
 */
#define xg_hide(variable) asm volatile("" : "+r"(variable))

/*
 * Makes the verifier forget what it knows about an integer variable; its value stays. `zero` is a 64-bit 0 in memory
 * that the verifier does not know to be 0 (xg_settings.zero). It then has one state to follow, not one for each value
 * that a branch has left.
 *
 * By XOR: for a sum, kernels from 6.11 on remember which constant was added to which unknown number, and distinguish
 * such states. Kernels before 6.10 treat the result of an XOR or OR with an unknown operand as entirely unknown, later
 * ones derive bounds from those of the operands: so a bound is set after it, not before, with xg_hide() in between,
 * because clang would move it in front (6.1 rejected the program). See xg_parse_extensions().
 */
#define xg_unlearn(variable, zero) ((variable) ^= (zero))

/*
 * Keeps memory accesses in source order: everything before it is written before anything after it, and what follows is
 * read anew. For readers in user space, and for values that go through map memory.
 */
#define xg_barrier() asm volatile("" ::: "memory")

/*
 * An index inside a table of `size` entries, a power of two. The verifier derives the bound from the mask; what it knew
 * about an index that is in range is lost on the way through memory, or was never known.
 */
#define xg_within(index, size) ((index) & ((size) - 1))

/*
 * All ones if two words are equal, else zero: without a branch, so that eight comparisons result in one state. clang
 * recognizes the arithmetic and turns it back into a branch unless part of it is hidden.
 */
static __always_inline u64 xg_same(u64 one, u64 other)
{
	u64 difference = one ^ other, borrow = (difference - 1) & ~difference;

	xg_hide(borrow);
	return 0 - (borrow >> 63);
}

#endif
