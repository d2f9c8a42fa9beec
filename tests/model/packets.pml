/* Windows over packets: csrc/cuda/packet_window.h. RANKS ranks count the same turns. In some all post and look at
 * all, and none of them waits for a credit or counts what it has read; in the others rank 0 posts, and the
 * others look at it.
 *
 * Checked in every interleaving, for every sequence of turns: what is read is what was posted in this turn; no
 * packet is written over one that somebody still has to read; nobody waits for ever.
 *
 * -DNO_CREDIT: nobody waits for a credit. -DTRUSTING: who has seen all in some turn takes for read what was not
 * posted to all. Both must fail.
 */
#define RANKS 3
#define SLOTS 2
#define TURNS 5

/* packets[(owner * RANKS + sender) * SLOTS + slot]: the turn, counted from 1, whose packets lie there. */
byte packets[RANKS * RANKS * SLOTS];
byte consumed[RANKS];
bool all_see[TURNS];

#define PLACE(owner, sender) (((owner) * RANKS + (sender)) * SLOTS + turn % SLOTS)

proctype Rank(byte me) {
  byte turn, peer, known;  /* turns before `known` have been read by all */
  for (turn : 0 .. TURNS - 1) {
    if
    :: all_see[turn] || me == 0 ->
#ifndef NO_CREDIT
      if
      :: turn < known + SLOTS -> skip
      :: else ->
        for (peer : 0 .. RANKS - 1) {
          (peer == me || consumed[peer] >= turn + 1 - SLOTS);
        }
        known = turn + 1 - SLOTS;
      fi;
#endif
      for (peer : 0 .. RANKS - 1) {
        if
        :: peer != me -> packets[PLACE(peer, me)] = turn + 1
        :: else -> skip
        fi;
      }
    :: else -> skip
    fi;
    for (peer : 0 .. RANKS - 1) {
      if
      :: peer != me && (all_see[turn] || peer == 0) ->
        (packets[PLACE(me, peer)] >= turn + 1);
        assert(packets[PLACE(me, peer)] == turn + 1);  /* else it was overwritten */
      :: else -> skip
      fi;
    }
    if
    :: all_see[turn] ->
#ifdef TRUSTING
      known = turn + 1;
#else
      known = turn;
#endif
    :: else -> consumed[me] = turn + 1
    fi;
  }
}

init {
  byte rank, turn;
  for (turn : 0 .. TURNS - 1) {
    if
    :: all_see[turn] = true
    :: all_see[turn] = false
    fi;
  }
  atomic {
    for (rank : 0 .. RANKS - 1) {
      run Rank(rank);
    }
  }
}
