---------------------------- MODULE StepProtocol ----------------------------
(***************************************************************************)
(* The step protocol of Stage-3: what must be durable before what, who may *)
(* start a step, and what a restart may say of one that was running.       *)
(* README.md beside this file names the code behind each action.           *)
(*                                                                         *)
(* A plan is one submission under the plan_id that Stage-4 minted for it.  *)
(* The tables that the gates read are functions of the log here: in the    *)
(* store both are written by one transaction.                              *)
(*                                                                         *)
(* `Bug` seeds one error. "none" is the protocol; every other value is a   *)
(* protocol that somebody might have written, and that an invariant of     *)
(* this module refuses.                                                    *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Procs,        \* replicas of Stage-3. One: the embedded store. More: contract section 13
    Plans,        \* submissions, a subset of {"p1", "p2", "p3"}
    Relations,    \* how the second submission may relate to the first
    Steps,        \* steps of each plan
    Limits,       \* max_invocations that token t1 may have
    MaxCrashes,   \* kill -9, of one process each
    MaxLosses,    \* power losses, of every process and of what is not synced
    MaxFaults,    \* commits that fail, and poison their store
    MaxClaims,    \* takeovers
    MaxHalts,     \* halts, each with a resumption
    MaxFailures,  \* calls that fail, or are given up
    MaxDepartures, \* clients that leave, whose deadline passes, or whose answer is lost
    Bug

VARIABLES
    sub,        \* [plan -> what its client submitted], chosen once
    limit,      \* max_invocations of t1, chosen once
    log,        \* what the store's file says to who opens it
    synced,     \* how much of it survives a power loss
    published,  \* history: the longest log that anybody was told of
    batch,      \* [process -> records of its open transaction]
    proc,       \* [process -> "up", "down", "recovering", "poisoned"]
    run,        \* [plan -> the thread that executes it]
    inflight,   \* calls handed to a domain, which may still take effect
    effects,    \* [plan and step -> how many effects happened in the world]
    late,       \* answers that arrived after their call was given up
    told,       \* [plan -> what its client was told]
    revoke,     \* the revocation of t1: "no", the process that records it, "told"
    spent       \* how many crashes, losses, faults, failures, departures happened

vars == <<sub, limit, log, synced, published, batch, proc, run, inflight, effects, late, told,
          revoke, spent>>
world == <<inflight, effects, late>>
chosen == <<sub, limit>>

Nobody == "nobody"
StepSet == 1..Steps

(***************************************************************************)
(* Submissions                                                             *)
(***************************************************************************)
First == [req |-> "r1", caller |-> "c1", token |-> "t1", doc |-> "d1"]
Related(how) ==
    CASE how = "again"        -> First
      [] how = "other request" -> [First EXCEPT !.req = "r2"]
      [] how = "other caller" -> [First EXCEPT !.caller = "c2"]
      [] how = "other token"  -> [First EXCEPT !.token = "t2"]
      [] how = "other plan"   -> [First EXCEPT !.doc = "d2"]
Key(s) == IF Bug = "replay_key_without_caller"
          THEN <<sub[s].req>>
          ELSE <<sub[s].req, sub[s].caller>>
SameRequest(s, o) == sub[s].req = sub[o].req /\ sub[s].caller = sub[o].caller

(***************************************************************************)
(* What a log says                                                         *)
(***************************************************************************)
Record(kind, s, step, token, ends, holder) ==
    [kind |-> kind, plan |-> s, step |-> step, token |-> token, ends |-> ends, holder |-> holder]
Of(s, kind, step, ends) == Record(kind, s, step, sub[s].token, ends, Nobody)
\* No events of the audit log but rows of the same transaction.
Rows == {"LEASE"}

Range(seq) == {seq[n] : n \in 1..Len(seq)}
Durable == SubSeq(log, 1, synced)
Seen(p) == log \o batch[p]

IsRevoked(seq, token) == \E r \in Range(seq) : r.kind = "TOKEN_REVOKED" /\ r.token = token
IsAdmitted(seq, s) == \E r \in Range(seq) : r.kind = "TOKEN_VALIDATION" /\ r.plan = s
HasEnded(seq, s) == \E r \in Range(seq) : r.plan = s /\ r.ends # ""
Outcome(seq, s) == (CHOOSE r \in Range(seq) : r.plan = s /\ r.ends # "").ends
IsRunning(seq, s) == IsAdmitted(seq, s) /\ ~HasEnded(seq, s)
Count(seq, Test(_)) == Cardinality({n \in 1..Len(seq) : Test(seq[n])})
Starts(seq, token) == Count(seq, LAMBDA r : r.kind = "EXECUTION_STARTED" /\ r.token = token)
Refunds(seq, token) == Count(seq, LAMBDA r : r.ends = "failed" /\ r.token = token)
Charged(seq, token) == Starts(seq, token)
                       - (IF Bug = "charge_refunded" THEN Refunds(seq, token) ELSE 0)
Grant(token) == IF token = "t1" THEN limit ELSE Steps
HaltsIn(seq) == Count(seq, LAMBDA r : r.kind = "SERVICE_HALTED")
IsHalted(seq) == HaltsIn(seq) > Count(seq, LAMBDA r : r.kind = "SERVICE_RESUMED")
RunningStep(seq, s) ==
    Cardinality({r.step : r \in {q \in Range(seq) : q.kind = "EXECUTION_STARTED" /\ q.plan = s}})
Claims(seq, s) == Count(seq, LAMBDA r : r.kind = "LEASE" /\ r.plan = s)
\* The admission takes the lease with epoch 1; each claim raises it.
Epoch(seq, s) == 1 + Claims(seq, s)
Holder(seq, s) ==
    LET takes == {n \in 1..Len(seq) : seq[n].plan = s /\ seq[n].kind \in {"TOKEN_VALIDATION", "LEASE"}}
    IN  IF takes = {} THEN Nobody ELSE seq[CHOOSE n \in takes : \A m \in takes : m <= n].holder
\* The plan that consumed the request identifier of s, if one did.
Priors(seq, s) == {o \in Plans \ {s} :
                     /\ IF Bug = "request_consumed_at_the_end" THEN HasEnded(seq, o) ELSE TRUE
                     /\ IsAdmitted(seq, o)
                     /\ Key(o) = Key(s)}

(***************************************************************************)
(* The store: one transaction at a time holds the head; answers wait       *)
(***************************************************************************)
IsOpen(p) == batch[p] # <<>>
MayTakeTurn(p) == Bug = "stale_head" \/ \A q \in Procs \ {p} : ~IsOpen(q)

Numbered(p, records) ==
    [n \in 1..Len(records) |-> [seq |-> Len(Seen(p)) + n] @@ records[n]]
\* One decision: its records join the open batch. Nothing of it is durable yet.
Write(p, records) ==
    /\ MayTakeTurn(p)
    /\ batch' = [batch EXCEPT ![p] = @ \o Numbered(p, records)]
    /\ UNCHANGED <<log, synced, published>>

Hears(s, what) == [told EXCEPT ![s] = IF @ = "none" THEN what ELSE @]

(***************************************************************************)
(* Whoever decided waits for the commit, unless the decision and all that  *)
(* it read are durable already. What it then does is in `say`: "start", or *)
(* the answer.                                                             *)
(***************************************************************************)
Await(s, p, step, say) == [pc |-> "await", at |-> p, step |-> step, say |-> say]
Ended(p) == [pc |-> "done", at |-> p, step |-> 0, say |-> ""]
Lost == [pc |-> "lost", at |-> Nobody, step |-> 0, say |-> ""]
Calling(p, step) == [pc |-> "calling", at |-> p, step |-> step, say |-> ""]
EarlyEffect == Bug = "effect_before_commit"
EarlyAnswer == Bug = "answer_before_commit"

Decide(s, p, step, say, records) ==
    /\ Write(p, records)
    /\ LET goesOn == \/ say = "start" /\ EarlyEffect
                     \/ say # "start" /\ EarlyAnswer
                     \/ batch'[p] = <<>>
       IN  IF ~goesOn
           THEN /\ run' = [run EXCEPT ![s] = Await(s, p, step, say)]
                /\ UNCHANGED <<told, inflight>>
           ELSE IF say = "start"
           THEN /\ run' = [run EXCEPT ![s] = Calling(p, step)]
                /\ inflight' = inflight \cup {<<s, step>>}
                /\ UNCHANGED told
           ELSE /\ run' = [run EXCEPT ![s] = Ended(p)]
                /\ told' = Hears(s, say)
                /\ UNCHANGED inflight
    /\ UNCHANGED <<chosen, proc, effects, late, revoke, spent>>

Waiting(p) == {s \in Plans : run[s].pc = "await" /\ run[s].at = p}
Released(p) ==
    /\ run' = [s \in Plans |->
                 IF s \notin Waiting(p) THEN run[s]
                 ELSE IF run[s].say = "start" THEN Calling(p, run[s].step)
                 ELSE Ended(p)]
    /\ inflight' = inflight \cup {<<s, run[s].step>> : s \in {w \in Waiting(p) : run[w].say = "start"}}
    /\ told' = [s \in Plans |->
                  IF s \in Waiting(p) /\ run[s].say # "start" /\ told[s] = "none"
                  THEN run[s].say ELSE told[s]]
    /\ revoke' = IF revoke = p THEN "told" ELSE revoke
    /\ published' = log'

\* Written and synced in one step: between the two nobody can look at a living store, and a process
\* that dies there is in Crash. From here on the batch's intents may be used and its answers given.
Commit(p) ==
    /\ IsOpen(p)
    /\ proc[p] \in {"up", "recovering"}
    /\ log' = log \o batch[p]
    /\ synced' = IF Bug = "synchronous_normal" THEN synced ELSE Len(log')
    /\ batch' = [batch EXCEPT ![p] = <<>>]
    /\ Released(p)
    /\ UNCHANGED <<chosen, proc, effects, late, spent>>

(***************************************************************************)
(* Admission, and the first step in the same commit                        *)
(***************************************************************************)
\* Gate 1 and 3 in the turn that starts a step.
Refusal(seq, s, step) ==
    IF step > 1 /\ Bug = "revocation_asked_at_admission_only" THEN ""
    ELSE IF IsRevoked(seq, sub[s].token) THEN "denied"
    ELSE IF Charged(seq, sub[s].token) >= Grant(sub[s].token) THEN "denied"
    ELSE ""

Deny(s) == <<Of(s, "EXECUTION_DENIED", 0, "denied")>>
StartOf(s, step) == Of(s, "EXECUTION_STARTED", step, "")
Admission(s, p) ==
    <<Record("TOKEN_VALIDATION", s, 0, sub[s].token, "", p), StartOf(s, 1)>>
    \o (IF Bug = "next_step_started_ahead" /\ Steps > 1 THEN <<StartOf(s, 2)>> ELSE <<>>)

AdmitTurn(s, p, isFree) ==
    LET seq == Seen(p)
        priors == Priors(seq, s)
    IN  IF priors # {}
        THEN LET prior == CHOOSE o \in priors : TRUE
                 sameToken == sub[prior].token = sub[s].token \/ Bug = "replay_for_any_token"
                 samePlan == sub[prior].doc = sub[s].doc
             IN  IF sameToken /\ samePlan /\ HasEnded(seq, prior)
                 THEN Decide(s, p, 0, Outcome(seq, prior), <<>>)
                 ELSE IF sameToken /\ samePlan
                 THEN Decide(s, p, 0, "in progress", <<>>)
                 ELSE Decide(s, p, 0, "denied", Deny(s))
        ELSE IF IsHalted(seq)
        THEN Decide(s, p, 0, "halted", <<>>)
        ELSE IF IF Bug = "gates_asked_before_the_turn" THEN ~isFree ELSE IsRevoked(seq, sub[s].token)
        THEN Decide(s, p, 0, "denied", Deny(s))
        ELSE IF Charged(seq, sub[s].token) + Steps > Grant(sub[s].token)
        THEN Decide(s, p, 0, "denied", Deny(s))
        ELSE Decide(s, p, 1, "start", Admission(s, p))

Admit(s, p) ==
    /\ run[s].pc = "new"
    /\ proc[p] = "up"
    /\ Bug # "gates_asked_before_the_turn"
    /\ AdmitTurn(s, p, TRUE)

\* The seeded race: a verdict is kept, and the turn that starts the step believes it.
AskGatesEarly(s, p) ==
    /\ Bug = "gates_asked_before_the_turn"
    /\ run[s].pc = "new"
    /\ proc[p] = "up"
    /\ run' = [run EXCEPT ![s] = [pc |-> "asked", at |-> p, step |-> 0,
                                  say |-> IF IsRevoked(Seen(p), sub[s].token) THEN "no" ELSE "yes"]]
    /\ UNCHANGED <<chosen, log, synced, published, batch, proc, world, told, revoke, spent>>
AdmitAsked(s) ==
    /\ run[s].pc = "asked"
    /\ proc[run[s].at] = "up"
    /\ AdmitTurn(s, run[s].at, run[s].say = "yes")

(***************************************************************************)
(* The domain. A call that is out may take effect at any time, whatever    *)
(* has become of who made it.                                              *)
(***************************************************************************)
IsAnswered(s, step) == run[s].pc = "calling" /\ run[s].step = step
Answer(s, what) == run' = [run EXCEPT ![s] = [@ EXCEPT !.pc = "answered", !.say = what]]

Effect(s, step) ==
    /\ <<s, step>> \in inflight
    /\ inflight' = inflight \ {<<s, step>>}
    /\ effects' = [effects EXCEPT ![<<s, step>>] = @ + 1]
    /\ IF IsAnswered(s, step)
       THEN Answer(s, "ok") /\ UNCHANGED late
       ELSE /\ late' = IF run[s].pc = "lost" THEN late ELSE late \cup {<<s, step>>}
            /\ UNCHANGED run
    /\ UNCHANGED <<chosen, log, synced, published, batch, proc, told, revoke, spent>>

\* The domain answers that it failed, or was not reached.
Fail(s) ==
    /\ run[s].pc = "calling"
    /\ spent.failures < MaxFailures
    /\ spent' = [spent EXCEPT !.failures = @ + 1]
    /\ inflight' = inflight \ {<<s, run[s].step>>}
    /\ Answer(s, "failed")
    /\ UNCHANGED <<chosen, log, synced, published, batch, proc, effects, late, told, revoke>>

\* No answer within the method's time: given up, and the effect may yet come.
GiveUp(s) ==
    /\ run[s].pc = "calling"
    /\ spent.failures < MaxFailures
    /\ spent' = [spent EXCEPT !.failures = @ + 1]
    /\ Answer(s, "silent")
    /\ UNCHANGED <<chosen, log, synced, published, batch, proc, world, told, revoke>>

(***************************************************************************)
(* Settlement: what was answered, and in the same commit what follows      *)
(***************************************************************************)
Completed(s, ends) == Of(s, "EXECUTION_COMPLETED", run[s].step, ends)
Aborted(s, step, ends) == Of(s, "OPERATION_ABORTED", step, ends)
IsFenced(seq, s) == Bug # "takeover_without_epoch" /\ Epoch(seq, s) > 1
IsGone(s) == told[s] = "unknown"

SettleOk(s, p, seq, stops) ==
    LET step == run[s].step
    IN  IF step = Steps
        THEN IF Bug = "terminal_event_twice" /\ IsGone(s)
             THEN Decide(s, p, step, "aborted",
                         <<Completed(s, "completed"), Aborted(s, step, "aborted")>>)
             ELSE Decide(s, p, step, "completed", <<Completed(s, "completed")>>)
        ELSE IF stops
        THEN Decide(s, p, step, "aborted", <<Completed(s, ""), Aborted(s, step + 1, "aborted")>>)
        ELSE IF Refusal(seq, s, step + 1) # ""
        THEN Decide(s, p, step, "denied",
                    <<Completed(s, ""), Of(s, "EXECUTION_DENIED", step + 1, "denied")>>)
        ELSE Decide(s, p, step + 1, "start", <<Completed(s, ""), StartOf(s, step + 1)>>)

Settle(s) ==
    LET p == run[s].at
        seq == Seen(p)
        halted == IsHalted(seq) /\ Bug # "halt_asked_at_admission_only"
    IN  /\ run[s].pc = "answered"
        /\ proc[p] = "up"
        /\ MayTakeTurn(p)
        /\ IF IsFenced(seq, s)
           THEN \* Another replica owns the plan: this answer can only be a late one.
                /\ run' = [run EXCEPT ![s] = Ended(p)]
                /\ told' = Hears(s, "unknown")
                /\ late' = IF run[s].say = "ok" THEN late \cup {<<s, run[s].step>>} ELSE late
                /\ UNCHANGED <<chosen, log, synced, published, batch, proc, inflight, effects,
                               revoke, spent>>
           ELSE CASE run[s].say = "ok" ->
                       \* A client's departure may be noticed by this turn or not yet.
                       \E noticed \in IF IsGone(s) THEN BOOLEAN ELSE {FALSE} :
                         SettleOk(s, p, seq, halted \/ noticed)
                  [] run[s].say = "failed" ->
                       Decide(s, p, run[s].step, "failed", <<Completed(s, "failed")>>)
                  [] run[s].say = "silent" ->
                       Decide(s, p, run[s].step, "in doubt", <<Aborted(s, run[s].step, "in doubt")>>)

\* LATE_OUTCOME: the one event that may follow a plan's end. Nobody waits for it.
RecordLate(s, step) ==
    LET p == run[s].at
        record == CASE Bug = "late_answer_changes_the_outcome" ->
                         Of(s, "EXECUTION_COMPLETED", step, "completed")
                    [] Bug = "late_answer_completes_the_step" ->
                         Of(s, "EXECUTION_COMPLETED", step, "")
                    [] OTHER -> Of(s, "LATE_OUTCOME", step, "")
    IN  /\ <<s, step>> \in late
        /\ proc[p] = "up"
        /\ HasEnded(Seen(p), s)
        /\ Write(p, <<record>>)
        /\ late' = late \ {<<s, step>>}
        /\ UNCHANGED <<chosen, proc, run, inflight, effects, told, revoke, spent>>

(***************************************************************************)
(* Operators and clients                                                   *)
(***************************************************************************)
Revoke(p) ==
    /\ revoke = "no"
    /\ proc[p] = "up"
    /\ Write(p, <<Record("TOKEN_REVOKED", Nobody, 0, "t1", "", Nobody)>>)
    /\ revoke' = p
    /\ UNCHANGED <<chosen, proc, run, world, told, spent>>

Halt(p) ==
    /\ proc[p] = "up"
    /\ HaltsIn(Seen(p)) < MaxHalts
    /\ ~IsHalted(Seen(p))
    /\ Write(p, <<Record("SERVICE_HALTED", Nobody, 0, "", "", Nobody)>>)
    /\ UNCHANGED <<chosen, proc, run, world, told, revoke, spent>>

Resume(p) ==
    /\ proc[p] = "up"
    /\ IsHalted(Seen(p))
    /\ Write(p, <<Record("SERVICE_RESUMED", Nobody, 0, "", "", Nobody)>>)
    /\ UNCHANGED <<chosen, proc, run, world, told, revoke, spent>>

\* The client cancels, its deadline passes, or the answer between the services is lost.
Depart(s) ==
    /\ spent.departures < MaxDepartures
    /\ spent' = [spent EXCEPT !.departures = @ + 1]
    /\ told[s] = "none"
    /\ run[s].pc \in {"await", "calling", "answered"}
    /\ told' = [told EXCEPT ![s] = "unknown"]
    /\ UNCHANGED <<chosen, log, synced, published, batch, proc, run, world, revoke>>

(***************************************************************************)
(* Crashes and restarts                                                    *)
(***************************************************************************)
RunsAt(s, p) == run[s].at = p /\ run[s].pc \in {"asked", "await", "calling", "answered"}
\* Every thread of these processes is gone, and the clients that waited know nothing.
Gone(dead) ==
    /\ run' = [s \in Plans |->
                 IF \E p \in dead : RunsAt(s, p) \/ (run[s].at = p /\ run[s].pc = "done")
                 THEN Lost ELSE run[s]]
    /\ told' = [s \in Plans |->
                  IF told[s] = "none" /\ \E p \in dead : RunsAt(s, p) THEN "unknown" ELSE told[s]]
    /\ late' = {l \in late : run[l[1]].at \notin dead}
    /\ batch' = [p \in Procs |-> IF p \in dead THEN <<>> ELSE batch[p]]
    \* A revocation that nobody was told of: the operator asks again.
    /\ revoke' = IF revoke \in dead THEN "told" ELSE revoke
    /\ UNCHANGED <<chosen, published, inflight, effects>>

\* The batch of a commit that was interrupted is in the file or not. Read by the next process it is
\* not durable for that: but a store that replicas share is a server, which finishes what it began.
Interrupted(p) ==
    /\ log' \in {log, log \o batch[p]}
    /\ synced' = IF Cardinality(Procs) > 1 THEN Len(log') ELSE synced

Crash(p) ==
    /\ proc[p] \in {"up", "recovering"}
    /\ spent.crashes < MaxCrashes
    /\ spent' = [spent EXCEPT !.crashes = @ + 1]
    /\ proc' = [proc EXCEPT ![p] = "down"]
    /\ Interrupted(p)
    /\ Gone({p})

PowerLoss ==
    /\ spent.losses < MaxLosses
    /\ spent' = [spent EXCEPT !.losses = @ + 1]
    /\ proc' = [p \in Procs |-> "down"]
    /\ Gone(Procs)
    \* What was not synced is there or is not.
    /\ log' \in {log, Durable}
    /\ synced' = Len(log')

\* A write or a sync failed: the store is poisoned, nothing is told, the process ends.
Poison(p) ==
    /\ IsOpen(p)
    /\ proc[p] \in {"up", "recovering"}
    /\ spent.faults < MaxFaults
    /\ spent' = [spent EXCEPT !.faults = @ + 1]
    /\ IF Bug = "failed_sync_retried"
       THEN \* The second attempt succeeds, and what the first one lost stays lost.
            /\ log' = log \o batch[p]
            /\ batch' = [batch EXCEPT ![p] = <<>>]
                    /\ Released(p)
            /\ UNCHANGED <<chosen, synced, proc, effects, late>>
       ELSE /\ proc' = [proc EXCEPT ![p] = "poisoned"]
            /\ Interrupted(p)
            /\ Gone({p})
Exit(p) ==
    /\ proc[p] = "poisoned"
    /\ proc' = [proc EXCEPT ![p] = "down"]
    /\ UNCHANGED <<chosen, log, synced, published, batch, run, world, told, revoke, spent>>

Restart(p) ==
    /\ proc[p] = "down"
    /\ proc' = [proc EXCEPT ![p] = IF Bug = "recovery_after_serving" THEN "up" ELSE "recovering"]
    /\ UNCHANGED <<chosen, log, synced, published, batch, run, world, told, revoke, spent>>

\* What the last process wrote and did not sync was read from memory: nothing may rest on it yet.
SyncTail(p) ==
    /\ proc[p] = "recovering"
    /\ ~IsOpen(p) /\ MayTakeTurn(p)
    /\ synced < Len(log)
    /\ Bug # "unsynced_tail_served"
    /\ synced' = Len(log)
    /\ published' = log
    /\ UNCHANGED <<chosen, log, batch, proc, run, world, told, revoke, spent>>

RunningOf(p) == {s \in Plans : IsRunning(Seen(p), s) /\ Holder(Seen(p), s) = p}

\* A step whose start is there and whose end is not: in doubt, and never run again.
CloseInDoubt(p, s) ==
    LET step == RunningStep(Seen(p), s)
    IN  /\ Bug # "recovery_closes_nothing"
        /\ s \in RunningOf(p)
        /\ proc[p] = IF Bug = "recovery_after_serving" THEN "up" ELSE "recovering"
        /\ CASE Bug = "resumed_after_crash" ->
                  /\ MayTakeTurn(p) /\ synced = Len(log)
                  /\ run[s].pc = "lost"
                  /\ run' = [run EXCEPT ![s] = Calling(p, step)]
                  /\ inflight' = inflight \cup {<<s, step>>}
                  /\ UNCHANGED <<chosen, log, synced, published, batch, proc, effects, late,
                                 told, revoke, spent>>
             [] Bug = "started_again_after_crash" ->
                  run[s].pc = "lost" /\ Decide(s, p, step, "start", <<StartOf(s, step)>>)
             [] OTHER ->
                  /\ Write(p, <<Aborted(s, step, "in doubt")>>)
                  /\ UNCHANGED <<chosen, proc, run, world, told, revoke, spent>>

Serve(p) ==
    /\ proc[p] = "recovering"
    /\ ~IsOpen(p)
    /\ \/ RunningOf(p) = {}
       \/ Bug \in {"resumed_after_crash", "started_again_after_crash", "recovery_closes_nothing"}
    /\ synced = Len(log) \/ Bug = "unsynced_tail_served"
    /\ proc' = [proc EXCEPT ![p] = "up"]
    /\ UNCHANGED <<chosen, log, synced, published, batch, run, world, told, revoke, spent>>

(***************************************************************************)
(* Takeover. A lease may run out under an owner that is only slow, so a    *)
(* claim needs no crash; what protects the plan is the epoch.              *)
(***************************************************************************)
Claim(p, s) ==
    LET seq == Seen(p)
    IN  /\ proc[p] = "up"
        /\ IsRunning(seq, s)
        /\ Holder(seq, s) # p
        /\ Claims(seq, s) < MaxClaims
        /\ Write(p, <<Record("LEASE", s, 0, "", "", p)>>)
        /\ UNCHANGED <<chosen, proc, run, world, told, revoke, spent>>

CloseClaimed(p, s) ==
    LET seq == Seen(p)
    IN  /\ proc[p] = "up"
        /\ IsRunning(seq, s)
        /\ Holder(seq, s) = p /\ Claims(seq, s) > 0
        \* The claim is durable: closing rests on it.
        /\ Claims(Durable, s) = Claims(seq, s)
        /\ Write(p, <<Aborted(s, RunningStep(seq, s), "in doubt")>>)
        /\ UNCHANGED <<chosen, proc, run, world, told, revoke, spent>>

(***************************************************************************)
(* The protocol                                                            *)
(***************************************************************************)
Init ==
    /\ \E how \in Relations, third \in Relations :
         sub = [s \in Plans |-> CASE s = "p1" -> First [] s = "p2" -> Related(how)
                                  [] OTHER -> Related(third)]
    /\ limit \in Limits
    /\ log = <<>> /\ synced = 0 /\ published = <<>>
    /\ batch = [p \in Procs |-> <<>>]
    /\ proc = [p \in Procs |-> "up"]
    /\ run = [s \in Plans |-> [pc |-> "new", at |-> Nobody, step |-> 0, say |-> ""]]
    /\ inflight = {} /\ late = {}
    /\ effects = [e \in Plans \X StepSet |-> 0]
    /\ told = [s \in Plans |-> "none"]
    /\ revoke = "no"
    /\ spent = [crashes |-> 0, losses |-> 0, faults |-> 0, failures |-> 0, departures |-> 0]

\* The only way to stand still without being stuck: all is told, recorded, durable and served.
AllRest ==
    /\ \A s \in Plans : run[s].pc \in {"done", "lost"} /\ told[s] # "none"
    /\ \A p \in Procs : proc[p] = "up" /\ ~IsOpen(p)
    /\ \A s \in Plans : ~IsRunning(log, s)
    /\ synced = Len(log)
    /\ inflight = {} /\ late = {}
Rest == AllRest /\ UNCHANGED vars

AdmitAny == \E s \in Plans, p \in Procs : Admit(s, p) \/ AskGatesEarly(s, p)
AnswerOne(s) == Fail(s) \/ GiveUp(s) \/ \E step \in StepSet : IsAnswered(s, step) /\ Effect(s, step)

Next ==
    \/ AdmitAny
    \/ \E s \in Plans : AdmitAsked(s) \/ Settle(s) \/ Fail(s) \/ GiveUp(s) \/ Depart(s)
    \/ \E s \in Plans, step \in StepSet : Effect(s, step) \/ RecordLate(s, step)
    \/ \E p \in Procs : Commit(p) \/ Revoke(p) \/ Halt(p) \/ Resume(p)
    \/ \E p \in Procs : Crash(p) \/ Poison(p) \/ Exit(p) \/ Restart(p) \/ SyncTail(p) \/ Serve(p)
    \/ PowerLoss
    \/ \E p \in Procs, s \in Plans : CloseInDoubt(p, s) \/ Claim(p, s) \/ CloseClaimed(p, s)
    \/ Rest

Fairness ==
    /\ \A p \in Procs :
         /\ WF_vars(Commit(p)) /\ WF_vars(Exit(p)) /\ WF_vars(Restart(p))
         /\ WF_vars(SyncTail(p)) /\ WF_vars(Serve(p))
         /\ \A s \in Plans : WF_vars(CloseInDoubt(p, s)) /\ WF_vars(CloseClaimed(p, s))
    /\ \A s \in Plans : WF_vars(Settle(s)) /\ WF_vars(AnswerOne(s))

\* Replicas are alike; for checking invariants only.
ReplicaSymmetry == Permutations(Procs)

Spec == Init /\ [][Next]_vars
FairSpec == Spec /\ Fairness

(***************************************************************************)
(* I1 to I9. I10 and I11 are about values that this model does not have.   *)
(***************************************************************************)
TypeOK ==
    /\ \A r \in Range(log) : r.ends \in {"", "completed", "failed", "denied", "aborted", "in doubt"}
    /\ synced \in 0..Len(log)
    /\ inflight \subseteq Plans \X StepSet /\ late \subseteq Plans \X StepSet
    /\ \A p \in Procs : proc[p] \in {"up", "down", "recovering", "poisoned"}
    /\ \A s \in Plans : run[s].pc \in {"new", "asked", "await", "calling", "answered", "done", "lost"}

Is(n, kind, s) == log[n].kind = kind /\ log[n].plan = s
Positions == 1..Len(log)

\* At most one effect for each plan and step, and for each request and step.
I1 == /\ \A e \in DOMAIN effects : effects[e] <= 1
      /\ \A s, o \in Plans : s # o /\ SameRequest(s, o) =>
           \A step \in StepSet : effects[<<s, step>>] + effects[<<o, step>>] <= 1
\* No effect without a durable EXECUTION_STARTED. What is durable stays so: I7.
I2 == \A s \in Plans, step \in StepSet : effects[<<s, step>>] > 0 =>
        \E r \in Range(Durable) : r.kind = "EXECUTION_STARTED" /\ r.plan = s /\ r.step = step
\* No EXECUTION_STARTED of a token after its TOKEN_REVOKED.
I3 == \A n, m \in Positions :
        log[n].kind = "TOKEN_REVOKED" /\ log[m].kind = "EXECUTION_STARTED"
          /\ log[m].token = log[n].token => m < n
\* One EXECUTION_STARTED for each plan and step.
I4 == \A n, m \in Positions :
        log[n].kind = "EXECUTION_STARTED" /\ log[m].kind = "EXECUTION_STARTED"
          /\ log[n].plan = log[m].plan /\ log[n].step = log[m].step => n = m
\* One terminal event for each plan.
I5 == \A n, m \in Positions :
        log[n].ends # "" /\ log[m].ends # "" /\ log[n].plan = log[m].plan => n = m
\* Nothing but LATE_OUTCOME after it.
I6 == \A n, m \in Positions :
        n < m /\ log[n].ends # "" /\ log[m].plan = log[n].plan =>
          log[m].kind \in {"LATE_OUTCOME"} \cup Rows
\* The sequence has no gap, and no log that was published is anything but a beginning of this one.
I7 == /\ \A n \in Positions : log[n].seq = n
      /\ Len(published) <= Len(log) /\ SubSeq(log, 1, Len(published)) = published
\* Every outcome told to a client is durable, and is that of its own request, plan and token.
I8 == \A s \in Plans : told[s] \in {"completed", "failed", "denied", "aborted", "in doubt"} =>
        \E o \in Plans : /\ SameRequest(s, o) /\ sub[o].token = sub[s].token /\ sub[o].doc = sub[s].doc
                         /\ \E r \in Range(Durable) : r.plan = o /\ r.ends = told[s]
\* A plan's steps are in order, and none starts before the one before it has completed.
I9 == \A n \in Positions : log[n].kind = "EXECUTION_STARTED" /\ log[n].step > 1 =>
        \E m \in Positions : m < n /\ Is(m, "EXECUTION_COMPLETED", log[n].plan)
                             /\ log[m].step = log[n].step - 1

\* Contract section 4: a charge stands, whatever becomes of the step.
ChargesWithinGrant == Starts(log, "t1") <= limit
\* Nothing starts while the service is halted.
NoStartWhileHalted == \A n \in Positions :
    log[n].kind = "EXECUTION_STARTED" => ~IsHalted(SubSeq(log, 1, n))

(***************************************************************************)
(* Progress: with crashes that end, every admitted plan ends, and whoever  *)
(* asked is told something.                                                *)
(***************************************************************************)
AdmittedPlansEnd == \A s \in Plans : IsAdmitted(Durable, s) ~> HasEnded(Durable, s)
ClientsAreTold == \A s \in Plans : run[s].pc # "new" ~> told[s] # "none"
=============================================================================
