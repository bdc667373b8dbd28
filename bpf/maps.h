/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every map: key, value, who writes, who reads, and what happens when it is full. All are pinned: those under XG_PINS
 * belong to the instance and are shared by its interfaces, those under XG_LINK_PINS belong to one interface. The probe
 * has its own, unpinned copies of the latter.
 */
#ifndef XG_MAPS_H
#define XG_MAPS_H

#include "abi.h"
#include "config.h"

#define XG_BUCKETS 65536   /* a power of two */
#define XG_PROGRAMS_ROOM 8 /* enum xg_program, and those to come */
#define XG_FLIGHTS 4096    /* a power of two */
#define XG_MACS 1024
#define XG_MAX_LOCALS 16384
#define XG_EVENT_PAGES 16 /* a power of two */
#define XG_DROP_PAGES 128 /* likewise; room for 3,000 */
#define XG_SHADOW_PLACES (XG_SHADOW_RULES + XG_LISTS)

#ifndef BPF_F_INNER_MAP
#define BPF_F_INNER_MAP (1U << 12) /* linux/bpf.h, 5.10 */
#endif

/* As bcc's BPF_RINGBUF_OUTPUT, with a pin. */
#define BPF_RINGBUF_PINNED(_name, _pages, _pin)                                                                        \
	struct _name##_table_t {                                                                                       \
		int key;                                                                                               \
		u32 leaf;                                                                                              \
		int (*ringbuf_output)(void *, u64, u64);                                                               \
		void *(*ringbuf_reserve)(u64);                                                                         \
		void (*ringbuf_discard)(void *, u64);                                                                  \
		void (*ringbuf_submit)(void *, u64);                                                                   \
		u32 max_entries;                                                                                       \
	};                                                                                                             \
	__attribute__((section("maps/ringbuf:" _pin))) struct _name##_table_t _name = { .max_entries =                 \
												(_pages) * PAGE_SIZE }

/* [0] -> settings. Controller writes, program reads. Never full. */
BPF_TABLE_PINNED("array", u32, struct xg_settings, settings, 1, XG_PINS "/settings");

/*
 * Prefix -> rule, longest match. Controller writes, program reads. Full: the controller rejects the rule and names the
 * limit to raise.
 */
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix4, struct xg_rule, allow4, XG_MAX_RULES, XG_PINS "/allow4",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix6, struct xg_rule, allow6, XG_MAX_RULES, XG_PINS "/allow6",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix4, struct xg_rule, deny4_prefix, XG_MAX_RULES, XG_PINS "/deny4_prefix",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix6, struct xg_rule, deny6_prefix, XG_MAX_RULES, XG_PINS "/deny6_prefix",
		  BPF_F_NO_PREALLOC);

/* Single address -> rule; a hash, because a trie lookup costs more. Otherwise as above. */
BPF_TABLE_PINNED7("hash", struct xg_address4, struct xg_rule, deny4, XG_MAX_RULES, XG_PINS "/deny4", BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("hash", struct xg_address6, struct xg_rule, deny6, XG_MAX_RULES, XG_PINS "/deny6", BPF_F_NO_PREALLOC);

/*
 * The pre-filter: a set bit says that some deny entry touches this /24, bit net & 63 of word net >> 6. Controller maps
 * it into memory and writes, program reads. A bit that is set needlessly costs a lookup, a missing one would be a hole:
 * so the bit is set before an entry is added and cleared after it is removed.
 */
BPF_F_TABLE("array:" XG_PINS "/deny4_nets", u32, u64, deny4_nets, XG_NETS4_WORDS, BPF_F_MMAPABLE);

/* The pre-filter for IPv6: [line of a /32] -> bits, see stages/nets6.h. */
BPF_F_TABLE("array:" XG_PINS "/deny6_nets", u32, struct xg_line, deny6_nets, XG_RULE_NETS6_LINES, BPF_F_MMAPABLE);

/*
 * The named lists: their pre-filters, as above, and their index (stages/index.h), an array of lines. A new index is
 * built beside the one in force and then replaces it here, so that a packet meets the old lists or the new ones. The
 * controller maps all of them into memory and writes, the program reads. An index is as large as its lists need. Shadow
 * lists have their own copies of all this: otherwise a longer shadow prefix would hide one that drops.
 */
BPF_F_TABLE("array:" XG_PINS "/list_nets4", u32, struct xg_nets4, list_nets4, XG_NETS4_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array:" XG_PINS "/list_nets6", u32, struct xg_line, list_nets6, XG_NETS6_LINES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct xg_line, index_layout, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
BPF_TABLE_PINNED("array_of_maps$index_layout", u32, u32, list_index, 1, XG_PINS "/list_index");
BPF_F_TABLE("array:" XG_PINS "/shadow_nets4", u32, struct xg_nets4, shadow_nets4, XG_NETS4_WORDS, BPF_F_MMAPABLE);
BPF_F_TABLE("array:" XG_PINS "/shadow_nets6", u32, struct xg_line, shadow_nets6, XG_NETS6_LINES, BPF_F_MMAPABLE);
BPF_TABLE_PINNED("array_of_maps$index_layout", u32, u32, shadow_index, 1, XG_PINS "/shadow_index");

/* [cpu * XG_LISTS + number] -> packets and bytes of a list. As `hits` below. */
BPF_F_TABLE("array:" XG_PINS "/list_hits", u32, struct xg_hits, list_hits, (XG_MAX_CPUS + 1) * XG_LISTS,
	    BPF_F_MMAPABLE);

/* Prefix -> shadow rule, longest match; its slot is among those of shadow rules. As `allow4` above. */
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix4, struct xg_rule, shadow4, XG_SHADOW_RULES, XG_PINS "/shadow4",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix6, struct xg_rule, shadow6, XG_SHADOW_RULES, XG_PINS "/shadow6",
		  BPF_F_NO_PREALLOC);

/* [cpu * XG_SHADOW_PLACES + place] -> what a shadow entry would hit. Slots of rules, then numbers of lists. As `hits`.
 */
BPF_F_TABLE("array:" XG_PINS "/shadow_hits", u32, struct xg_shadow_hits, shadow_hits,
	    (XG_MAX_CPUS + 1) * XG_SHADOW_PLACES, BPF_F_MMAPABLE);

/*
 * [enum xg_program] -> a program that is entered by a tail call. The controller fills it when it loads the programs.
 * Each build has its own map; the pin keeps it alive, because the kernel empties a program map that nobody in user
 * space holds.
 */
#if XG_PROBE
BPF_TABLE("prog", u32, u32, programs, XG_PROGRAMS_ROOM);
#else
BPF_TABLE_PINNED("prog", u32, u32, programs, XG_PROGRAMS_ROOM, XG_LINK_PINS "/" XG_PROGRAMS);
#endif

/* Destination port and protocol -> rule. Controller writes, program reads. Large enough for every port. */
BPF_TABLE_PINNED7("hash", struct xg_port, struct xg_rule, ports, 2 * 65536, XG_PINS "/ports", BPF_F_NO_PREALLOC);

/*
 * [cpu * XG_MAX_RULES + slot] -> packets and bytes of a rule. Program writes: each CPU present at load time in rows of
 * its own, CPUs plugged in later together in the last rows. The controller maps it into memory, reads it, and clears a
 * row whose slot is given to a new rule.
 */
BPF_F_TABLE("array:" XG_PINS "/hits", u32, struct xg_hits, hits, (XG_MAX_CPUS + 1) * XG_MAX_RULES, BPF_F_MMAPABLE);

/*
 * Source and CPU -> TCP flag counts; hash of a tuple -> tuple and initial SYNs. Program writes, readers add up. Full:
 * the least recently used entry is evicted. New entries are limited by struct xg_budget.
 */
BPF_TABLE_PINNED("lru_hash", struct xg_source4, struct xg_source_counts, sources4, XG_SOURCES, XG_PINS "/sources4");
BPF_TABLE_PINNED("lru_hash", struct xg_source6, struct xg_source_counts, sources6, XG_SOURCES, XG_PINS "/sources6");
BPF_TABLE_PINNED("lru_hash", u64, struct xg_tuple4, tuples4, XG_TUPLES, XG_PINS "/tuples4");
BPF_TABLE_PINNED("lru_hash", u64, struct xg_tuple6, tuples6, XG_TUPLES, XG_PINS "/tuples6");

/*
 * Slot of a tuple -> the tuple whose handshake was proved there last: see stages/flight.h. Program writes and reads,
 * each CPU its own. Never full: a later tuple takes the slot.
 */
#if XG_PROBE
BPF_TABLE("percpu_array", u32, struct xg_flight, flights, XG_FLIGHTS);
#else
BPF_TABLE_PINNED("percpu_array", u32, struct xg_flight, flights, XG_FLIGHTS, XG_LINK_PINS "/flights");
#endif

/* [0] -> the SYN guard's policy. Controller writes, program reads. Never full. */
BPF_TABLE_PINNED("array", u32, struct xg_guard_policy, guard_policy, 1, XG_PINS "/guard_policy");

/*
 * [0] -> the SYN guard's state on this interface. Never full. Program and controller write and read: the controller
 * maps it into memory and writes single fields, as the program may begin a flood at that very moment.
 */
#if XG_PROBE
BPF_TABLE("array", u32, struct xg_guard, guards, 1);
#else
BPF_F_TABLE("array:" XG_LINK_PINS "/guard", u32, struct xg_guard, guards, 1, BPF_F_MMAPABLE);
#endif

/*
 * A MAC address as in struct xg_guard -> 1: that of a device above this interface. Controller writes, program reads.
 * Full: the controller reports that frames to the remaining addresses are left alone.
 */
BPF_TABLE_PINNED7("hash", u64, u32, macs, XG_MACS, XG_LINK_PINS "/macs", BPF_F_NO_PREALLOC);

/*
 * Prefix -> enum xg_local: the destinations that are this host's own, and broadcast addresses. Controller writes,
 * program reads. Full: the controller leaves the guard without them (struct xg_guard, locals).
 */
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix4, u32, locals4, XG_MAX_LOCALS, XG_LINK_PINS "/locals4",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct xg_prefix6, u32, locals6, XG_MAX_LOCALS, XG_LINK_PINS "/locals6",
		  BPF_F_NO_PREALLOC);

/*
 * Hash of a source prefix -> its token buckets. Program reads and writes. Never full: prefixes may share a slot, which
 * the size makes rare, and which only affects a prefix that shares with one over its limit.
 */
BPF_TABLE_PINNED("array", u32, struct xg_buckets, buckets, XG_BUCKETS, XG_PINS "/buckets");

/* Events for the controller to act on at once. Program writes, controller reads. Full: counted in events_lost. */
BPF_RINGBUF_PINNED(events, XG_EVENT_PAGES, XG_PINS "/events");

/* Samples of dropped packets while somebody reads them. Program writes, that reader reads. Full: counted in `lost`. */
BPF_RINGBUF_PINNED(drops, XG_DROP_PAGES, XG_PINS "/drops");

/* [0] -> what that reader asked for. It maps it into memory and writes, the program reads. */
BPF_F_TABLE("array:" XG_PINS "/drop_reader", u32, struct xg_reader, drop_reader, 1, BPF_F_MMAPABLE);

/*
 * [(reason * XG_MAX_CPUS + cpu) * XG_KEPT + place] -> the last samples of this interface. Program writes, each CPU in
 * records of its own; readers map it into memory.
 */
#if XG_PROBE
BPF_F_TABLE("array", u32, struct xg_drop, kept, XG_REASON_SLOTS * XG_MAX_CPUS * XG_KEPT, BPF_F_MMAPABLE);
#else
BPF_F_TABLE("array:" XG_LINK_PINS "/kept", u32, struct xg_drop, kept, XG_REASON_SLOTS * XG_MAX_CPUS * XG_KEPT,
	    BPF_F_MMAPABLE);
#endif

/* [0] -> this interface's counters, per CPU. Program writes, telemetry reads. Never full. */
#if XG_PROBE
BPF_TABLE("percpu_array", u32, struct xg_counters, counters, 1);
#else
BPF_TABLE_PINNED("percpu_array", u32, struct xg_counters, counters, 1, XG_LINK_PINS "/counters");
#endif

#endif
