/* Windows over packets: csrc/cuda/packet_window.h. RANKS ranks count the same turns, of four kinds:
 *
 *   all       all post, all look at all: none of them tells what it has read
 *   one       rank 0 posts, the others look at it (one_shot broadcast)
 *   others    the others post, rank 0 looks at them (one_shot reduce)
 *   apart     all post, all but rank 0 look at all (the second turn of two_shot broadcast)
 *
 * Checked in every interleaving, for every sequence of kinds: what is read is what was posted in this turn; no
 * packet is written over one that somebody still has to read; nobody waits for ever.
 *
 * -DNO_CREDIT: nobody waits for a credit. -DTRUSTING: who has seen all in some turn takes for read what was not
 * posted to all. Both must fail.
 */
#define RANKS 3
#define SLOTS 2
#define TURNS 4

#define ALL 0
#define ONE 1
#define OTHERS 2
#define APART 3

/* packets[(owner * RANKS + sender) * SLOTS + slot]: the turn, counted from 1, whose packets lie there. */
byte packets[RANKS * RANKS * SLOTS];
byte consumed[RANKS];
byte kind[TURNS];

#define PLACE(owner, sender) (((owner) * RANKS + (sender)) * SLOTS + turn % SLOTS)
#define POSTS(rank) (kind[turn] == ALL || kind[turn] == APART || (kind[turn] == ONE) == ((rank) == 0))
#define LOOKS(rank, sender) \
  (kind[turn] == ALL || ((kind[turn] == OTHERS) == ((rank) == 0) && (kind[turn] != ONE || (sender) == 0)))

proctype Rank(byte me) {
  byte turn, peer, known;  /* turns before `known` have been read by all */
  for (turn : 0 .. TURNS - 1) {
    if
    :: POSTS(me) ->
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
      :: peer != me && LOOKS(me, peer) ->
        (packets[PLACE(me, peer)] >= turn + 1);
        assert(packets[PLACE(me, peer)] == turn + 1);  /* else it was overwritten */
      :: else -> skip
      fi;
    }
    if
    :: kind[turn] == ALL ->
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
    :: kind[turn] = ALL
    :: kind[turn] = ONE
    :: kind[turn] = OTHERS
    :: kind[turn] = APART
    fi;
  }
  atomic {
    for (rank : 0 .. RANKS - 1) {
      run Rank(rank);
    }
  }
}
