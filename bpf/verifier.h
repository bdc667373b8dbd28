/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that is written one way rather than another for the verifier's sake, and why it works.
 *
 * The verifier walks every path through a program, a million instructions at most. At a branch it takes one side and
 * comes back for the other; a path ends early where it reaches a state that an earlier one has covered. So it must be
 * able to prove that each access is in bounds, and must not be made to tell states apart that behave alike.
 * netns-lab/verified.py counts the instructions by program and compiler, tests/bpf/test_verified.py holds the limits.
 * bcc compiles with -mcpu=v1 and the LLVM it was built with: 14 on Debian 12; clang 16 and 19 are tested besides.
 *
 * Tools, defined below:
 *
 *   xg_hide()      the compiler forgets what it knows of a variable
 *   xg_unlearn()   the verifier forgets what it knows of a variable
 *   xg_barrier()   memory accesses stay in the order of the source
 *   xg_within()    an index inside a table whose size is a power of two
 *   xg_same()      equality without a branch
 *
 * Habits:
 *
 * Values go through map memory. The verifier follows registers and stack slots through every branch, but knows nothing
 * of what a map's value holds. A field that is written there and read back has one state, however many paths wrote it:
 * struct xg_work, struct xg_after, struct xg_handover. Where the compiler would keep such a field in a register it is
 * volatile (struct xg_syn_options). With its work on the stack the guard took 500,000 instructions, most of them for
 * TCP options (LLVM 14, Linux 6.18). xg_log2() counts in a volatile byte, so that its results are not told apart.
 *
 * One exit. What all paths lead to is called once, behind a value that went through memory (xg_end()): the verifier
 * would walk each copy for each way that leads there. The same goes for results with many causes: xg_parse_extensions()
 * unlearns one length for all kinds of header, which took 154,000 instructions in place of 217,000 (LLVM 14, 6.18).
 *
 * Tail calls. The kernel verifies each program on its own (programs.h): in one program the three took 560,000
 * instructions with LLVM 14, 413,000 with clang 16 and 480,000 with clang 19, and with -mcpu=v3 too many.
 *
 * The order of conditions. A compiler may swap two that do not depend on each other; in xg_parse_udp() clang 14 then
 * made a million instructions of the combinations. Conditions that leave nothing known behind can stand in any order.
 *
 * Packet pointers are compared as pointers, `at + size > end`, and an offset is masked before it is added: 63 for a
 * network header behind at most two VLAN tags, 0x7fff for a transport header. The verifier accepts an added offset only
 * when it is bounded, below 64 KiB with all that follows.
 *
 * Sums in 64 bits. Of a 32-bit sum the verifier keeps the range, so what it is to forget, and the `zero` for that, are
 * u64; so are lengths that become bounds, as -mcpu=v1 has no 32-bit registers and extends each such value again by two
 * shifts.
 *
 * Copies of variable length by a helper (bpf_xdp_load_bytes(), bpf_probe_read_kernel()) need a length that is provably
 * 1 to the buffer's size: `((length - 1) & (SIZE - 1)) + 1`, see xg_copy_frame().
 *
 * A tracepoint's field that holds a whole struct is copied by a helper (tcp/tcp_probe.h): of loads in two branches
 * clang makes one, at an address computed before, and the verifier allows no access to the context at such an address.
 *
 * A lookup in an array cannot fail for an index in range. The verifier wants its result checked all the same.
 */
#ifndef XG_VERIFIER_H
#define XG_VERIFIER_H

#include <linux/types.h>

/*
 * Makes the compiler forget what it knows of a variable; its value stays. clang otherwise derives one condition from
 * another, moves a bound to where the value is made, or compares a pointer in a form that the verifier does not learn
 * from (seen with LLVM 14).
 */
#define xg_hide(variable) asm volatile("" : "+r"(variable))

/*
 * Makes the verifier forget what it knows of an integer variable; its value stays. `zero` is a 0 in memory that the
 * verifier does not know to be one (xg_settings.zero), of 64 bits. It then has one state to follow, not one for each
 * value that a branch has left.
 *
 * By XOR: of a sum, kernels from 6.11 on remember which constant was added to which unknown number, and tell such
 * states apart. Kernels before 6.10 take the result of an XOR or OR with an unknown operand as unknown altogether,
 * later ones derive bounds from the operands': so a bound is set after it, not before, with xg_hide() between, because
 * clang would move it in front (6.1 refused the program). See xg_parse_extensions().
 */
#define xg_unlearn(variable, zero) ((variable) ^= (zero))

/*
 * Keeps memory accesses in the order of the source: what is before it is written before what follows, and what follows
 * is read anew. For readers in user space, and for values that go through map memory.
 */
#define xg_barrier() asm volatile("" ::: "memory")

/*
 * An index inside a table of `size` entries, a power of two. The verifier derives the bound from the mask; an index
 * that is in range because of what came before has lost that on the way through memory, or was never known to be.
 */
#define xg_within(index, size) ((index) & ((size) - 1))

/*
 * All ones when two words are the same, else zero: without a branch, so that one state comes out of eight comparisons.
 * clang recognizes the arithmetic and makes a branch of it again, unless a part of it is hidden.
 */
static __always_inline u64 xg_same(u64 one, u64 other)
{
	u64 difference = one ^ other, borrow = (difference - 1) & ~difference;

	xg_hide(borrow);
	return 0 - (borrow >> 63);
}

#endif
