/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every change of a TCP socket's state, on the tracepoint sock:inet_sock_set_state, for `xdpguard tcp trace`. It takes
 * the tracepoint's arguments as they are: struct sock, old and new state.
 */
#include "../verifier.h"
#include "switches.h"
#include "ends.h"
#include "ring.h"
#include "owner.h"

#if !defined(XG_SOCKETS)
#error "XG_SOCKETS: sockets that are remembered"
#endif
#if !defined(XG_SOCK_ERR) || !defined(XG_SOCK_FLAGS)
#error "XG_SOCK_ERR, XG_SOCK_FLAGS: places in struct sock"
#endif

#define XG_SOCK_DONE (1ul << 1) /* enum sock_flags, include/net/sock.h: the other end's FIN was received */

struct xg_transition {
	u64 at;    /* monotonic, ns */
	u64 since; /* when the old state began; 0: before the program was there */
	u64 sk;    /* address in the kernel */
	struct xg_ends ends;
	u32 pid;   /* of the process that made the change itself, or the last one that did; 0: none is known */
	u32 inode; /* of the file; 0: nobody has the socket open */
	u8 old_state;
	u8 new_state;
	u8 own;  /* 1: `pid` made this very change */
	u8 rest; /* state of the timewait socket that takes over, 0: none */
	u8 zero[4];
	char comm[16];
};

/* Since when a socket has been in its state, and who last changed it. */
struct xg_state {
	u64 since;
	u32 pid;
	u8 held; /* the state before the last change, if that change has not been told yet; 0: it has */
	u8 zero[3];
	char comm[16];
};

/* struct sock -> its state. Program only. Removed when the socket closes; full: the least recently used entry goes. */
BPF_TABLE("lru_hash", u64, struct xg_state, sockets, XG_SOCKETS);

static __always_inline void xg_report_transition(struct xg_transition *event)
{
	if (!((1u << event->old_state | 1u << (event->rest ? BPF_TCP_TIME_WAIT : event->new_state)) & XG_STATES))
		return;
	if (XG_LONGER && (!event->since || event->at - event->since < XG_LONGER))
		return;
	xg_put(event, sizeof(*event));
}

/*
 * A socket that has sent its FIN and waits ends as CLOSE, because a timewait socket takes over in TIME_WAIT, or in
 * FIN_WAIT2 while the other end's FIN is still to come (tcp_time_wait()). Not so when it ends by an error.
 */
static __always_inline u8 xg_rest_of(const void *sk, int old_state, int new_state)
{
	unsigned long flags = 0;
	int error = 0;

	if (new_state != BPF_TCP_CLOSE || (old_state != BPF_TCP_FIN_WAIT2 && old_state != BPF_TCP_CLOSING))
		return 0;
	XG_READ_KERNEL(error, sk + XG_SOCK_ERR);
	if (error)
		return 0;
	XG_READ_KERNEL(flags, sk + XG_SOCK_FLAGS);
	return flags & XG_SOCK_DONE ? BPF_TCP_TIME_WAIT : BPF_TCP_FIN_WAIT2;
}

/* Reports the change that was held back, now that the socket's ends are all known. */
static __always_inline void xg_report_held(struct xg_transition *event, const struct xg_state *state)
{
	struct xg_transition before = *event;

	before.at = state->since;
	before.since = 0;
	before.new_state = event->old_state;
	before.old_state = state->held;
	before.own = state->held == BPF_TCP_CLOSE;
	before.rest = 0;
	xg_report_transition(&before);
}

/*
 * A socket cloned from its listener does not have all its addresses yet, a connecting one may lack its port. The first
 * change is then held back until the next: always in the former case, with a port filter in the latter.
 */
static __always_inline u8 xg_hold(struct xg_ends *ends, int old_state, int new_state)
{
	if (old_state == BPF_TCP_LISTEN && new_state == BPF_TCP_SYN_RECV)
		return BPF_TCP_LISTEN;
	if (XG_LOCAL_PORT_FIRST && new_state == BPF_TCP_SYN_SENT && !ends->local_port) {
		ends->local_port = XG_LOCAL_PORT_FIRST;
		return BPF_TCP_CLOSE;
	}
	return 0;
}

static __always_inline void xg_change(const void *sk, int old_state, int new_state)
{
	struct xg_transition event = {};
	struct xg_state state = {}, *known;
	u16 protocol = 0;
	u8 hold;

	XG_READ_KERNEL(protocol, sk + XG_SOCK_PROTOCOL);
	/* close() after shutdown() reports FIN_WAIT1 once more. */
	if (protocol != IPPROTO_TCP || old_state == new_state)
		return;
	event.sk = (u64)sk;
	xg_ends_of(sk, &event.ends);
	hold = xg_hold(&event.ends, old_state, new_state);
	if (hold != BPF_TCP_LISTEN && !xg_wanted(&event.ends)) {
		sockets.delete(&event.sk);
		return;
	}
	known = sockets.lookup(&event.sk);
	if (known)
		state = *known;
	event.at = bpf_ktime_get_ns();
	event.since = state.since;
	event.old_state = old_state;
	event.new_state = new_state;
	event.own = xg_is_own(old_state, new_state) && xg_note_owner(&state.pid, state.comm);
	event.pid = state.pid;
	__builtin_memcpy(event.comm, state.comm, sizeof(event.comm));
	event.inode = xg_inode_of(sk);
	if (known && known->held)
		xg_report_held(&event, known);
	state.since = event.at;
	state.held = hold;
	if (new_state == BPF_TCP_CLOSE)
		sockets.delete(&event.sk);
	else
		sockets.update(&event.sk, &state);
	if (hold)
		return;
	event.rest = xg_rest_of(sk, old_state, new_state);
	xg_report_transition(&event);
}

/*
 * The kernel skips a program that is already running on that CPU: if a packet arrives just when a process closes its
 * socket, the change made by the packet would be lost. So there are two programs. The first records that it is running;
 * the second, which is not skipped then, does the work of the first if it finds that.
 */
BPF_TABLE("percpu_array", u32, u32, running, 1);
/* [0] -> changes that the second one has seen to, per CPU. */
BPF_TABLE("percpu_array", u32, u64, stood_in, 1);

int xg_first(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, *mark = running.lookup(&zero);

	if (!mark)
		return 0;
	*mark = 1;
	xg_barrier();
	xg_change((const void *)ctx->args[0], ctx->args[1], ctx->args[2]);
	xg_barrier();
	*mark = 0;
	return 0;
}

int xg_second(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0, *mark = running.lookup(&zero);
	u64 *count = stood_in.lookup(&zero);

	if (!mark || !count || !*(volatile u32 *)mark)
		return 0;
	(*count)++;
	xg_change((const void *)ctx->args[0], ctx->args[1], ctx->args[2]);
	return 0;
}
