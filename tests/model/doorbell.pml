/* A doorbell: csrc/core/doorbell.h, and how Solo and Patience use it (csrc/core/team.h, communicator/patience.cpp).
 *
 * Checked in every interleaving: who goes to sleep is woken. (The code also wakes every 20 ms to look around; a
 * model that relied on that could not tell a lost wake-up from a short nap.)
 *
 * The one place where a processor's store buffer matters, so it is here: the signaller's store of `filled` may
 * stay in `buffered` for any time, until the processor drains it, or a sequentially consistent store waits.
 *
 * -DWEAK: the store is a release store, which waits for nothing. -DNO_SECOND_LOOK: the sleeper does not look again
 * after its announcement. -DNO_TICKET: it sleeps whatever has been rung meanwhile. Each must fail.
 */
#define SIGNALS 3

byte filled, buffered, rings, sleepers;
bool done;

proctype Processor() {                       /* drains the store buffer at some time */
  do
  :: buffered != filled -> filled = buffered
  :: done && buffered == filled -> break
  od
}

proctype Signaller() {
  byte number;
  for (number : 1 .. SIGNALS) {
    buffered = number;
#ifndef WEAK
    (filled == buffered);                    /* seq_cst: later loads wait for it */
#endif
    if
    :: sleepers > 0 -> rings++
    :: else -> skip
    fi
  }
  done = true;
}

proctype Sleeper() {
  byte number, ticket;
  for (number : 1 .. SIGNALS) {
    do
    :: filled >= number -> break             /* the spin */
    :: sleepers++;                           /* announce: a full barrier, as every read-modify-write */
       ticket = rings;
#ifndef NO_SECOND_LOOK
       if
       :: filled >= number -> sleepers--; break
       :: else -> skip
       fi;
#endif
#ifdef NO_TICKET
       ticket = rings;
#endif
       (rings != ticket);                    /* FUTEX_WAIT returns at once if rings has changed */
       sleepers--
    od
  }
}

init {
  atomic {
    run Processor();
    run Signaller();
    run Sleeper();
  }
}
