/* A lane: csrc/link/slots.h. One sender, one receiver, SLOTS slots, TURNS messages, and a fault at any moment.
 *
 * Checked in every interleaving: no slot is written before it is drained (overrun), no piece is read before
 * all of it is written (torn), messages arrive in order, and after a fault every wait ends.
 *
 * Spin runs one step at a time, in one order for all. What the C++ needs for that to be enough are the pairs
 * that the comments there name: all that is written before `filled` is published is seen by who has read it
 * (release, acquire), and likewise `drained`.
 *
 * -DNO_CREDITS: the sender does not wait. -DEARLY_PUBLISH: it publishes before it has written all.
 * -DDEAF: waits do not look for faults. Each must fail.
 */
#define SLOTS 2
#define TURNS 5

byte filled[SLOTS];      /* turn + 1 of the message inside */
byte drained;            /* messages that the receiver has given back */
byte head[SLOTS];        /* a piece is written in two steps, so that half of one can be seen */
byte tail[SLOTS];
bool unread[SLOTS];      /* only for the assertions */
bool fault;

#ifdef DEAF
#define OR_FAULT
#else
#define OR_FAULT || fault
#endif

proctype Sender() {
  byte turn;
  for (turn : 0 .. TURNS - 1) {
#ifndef NO_CREDITS
    (turn - drained < SLOTS OR_FAULT);
#endif
    if :: fault -> break :: else fi;
    assert(!unread[turn % SLOTS]);            /* no overrun */
#ifdef EARLY_PUBLISH
    filled[turn % SLOTS] = turn + 1;
#endif
    head[turn % SLOTS] = turn;
    tail[turn % SLOTS] = turn;
    unread[turn % SLOTS] = true;
    filled[turn % SLOTS] = turn + 1;
  }
}

proctype Receiver() {
  byte turn;
  for (turn : 0 .. TURNS - 1) {
    (filled[turn % SLOTS] == turn + 1 OR_FAULT);
    if :: fault -> break :: else fi;
    assert(head[turn % SLOTS] == turn && tail[turn % SLOTS] == turn);  /* in order, and whole */
    unread[turn % SLOTS] = false;
    drained = turn + 1;
  }
}

/* A rank that dies leaves its peer alone; the peer, or anybody else, then raises the fault. */
proctype Fate() {
  if
  :: fault = true
  :: skip
  fi
}

proctype DyingReceiver() {
  (filled[0] == 1);
  fault = true;                               /* it has gone without draining anything */
}

init {
  atomic {
    run Sender();
#ifdef DYING
    run DyingReceiver();
#else
    run Receiver();
    run Fate();
#endif
  }
}
