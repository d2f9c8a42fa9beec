/* Windows: csrc/link/window.h. RANKS ranks count the same turns; in each, all post, all read all, all are done.
 *
 * Checked in every interleaving: what is read is what was posted in this turn, whole; no slot is written while
 * somebody still reads it; nobody waits for ever. A rank that does not read in a turn may be ahead of the
 * others: rank 0 reads nothing in odd turns.
 *
 * -DNO_CLAIM: ranks do not wait until all have consumed a slot. -DONE_PEER: they wait for one peer only. Both
 * must fail.
 */
#define RANKS 3
#define SLOTS 2
#define TURNS 4

byte filled[RANKS * SLOTS];
byte data[RANKS * SLOTS];
byte consumed[RANKS];

#define SLOT(rank) ((rank) * SLOTS + turn % SLOTS)
#define FREE(peer) (turn < consumed[peer] + SLOTS)

proctype Rank(byte me) {
  byte turn, peer;
  for (turn : 0 .. TURNS - 1) {
#ifndef NO_CLAIM
#ifdef ONE_PEER
    (FREE((me + 1) % RANKS));
#else
    for (peer : 0 .. RANKS - 1) {
      (FREE(peer) || peer == me);
    }
#endif
#endif
    data[SLOT(me)] = turn;
    filled[SLOT(me)] = turn + 1;
    if
    :: (me == 0 && turn % 2 == 1) -> skip
    :: else ->
      for (peer : 0 .. RANKS - 1) {
        (filled[SLOT(peer)] >= turn + 1);
        assert(filled[SLOT(peer)] == turn + 1);  /* else it was overwritten */
        assert(data[SLOT(peer)] == turn);
      }
    fi;
    consumed[me] = turn + 1;
  }
}

init {
  byte rank;
  atomic {
    for (rank : 0 .. RANKS - 1) {
      run Rank(rank);
    }
  }
}
