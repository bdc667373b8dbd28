/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The programs that are entered by tail calls, and their indexes in the program map. The kernel verifies each on its
 * own, so that none comes near the verifier's limit, and a tail call to a constant index is a direct jump. The map
 * belongs to one build of the programs: after a failed attach the programs in force keep calling each other, and never
 * one that was built with other switches.
 */
#ifndef XG_PROGRAMS_H
#define XG_PROGRAMS_H

enum xg_program {
	XG_PROGRAM_AFTER,
	XG_PROGRAM_GUARD,
	XG_PROGRAM_FILTERS,
};

#endif
