"""The crew on a Ray cluster. It moves references, never tensors: windows go from conductor to gang and back.

Ray tells of a dead process within milliseconds. What it cannot tell, a rank that hangs inside a collective,
ends at the gang's own timeout, and any other call that hangs at its own. Either way the worker is reported
lost and replaced; another does its work.
Decides: whom a lost or failed call takes with it. Does not decide: who works at what (dispatch), when a
call counts as hung (calls), or where windows lie meanwhile (canvases).
"""

import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import ray
from ray import exceptions as errors

from cluster.actors import Ref, StageHandle, start_rendezvous
from cluster.calls import Call, answered, hung
from cluster.canvases import Canvases
from cluster.causes import GONE, first_failure, is_collective, of_memory, of_peer
from cluster.conductor import Turn
from cluster.crew import Setup, judge
from cluster.dispatch import GANG
from cluster.events import (
    Action,
    Advance,
    Done,
    Draining,
    Drop,
    Event,
    Fared,
    Hired,
    Lost,
    Open,
    Predict,
    Predicted,
    Replace,
    Run,
    Turned,
    Window,
    Yielding,
)
from cluster.gang import Gang, placeless
from cluster.ground import Ground
from cluster.hiring import Hires
from cluster.nodes import living_nodes, node_address
from cluster.outcomes import Failure
from cluster.pool import Pool
from cluster.shots import ShotTask
from cluster.topology import fit, room
from cluster.yielding import GIVEN, Part
from engine.faults import gpu_failed
from engine.memory import ran_out

LOOK_S = 2.0  # between two looks for nodes that are about to go
WAIT_S = 1.0  # so that signals are seen


class RayCrew:
    """Conductors, encoder, decoders and finishers as actors; gangs in placement groups."""

    def __init__(self, setup: Setup) -> None:
        self.setup = fit(setup, living_nodes())
        self.stages: dict[str, StageHandle] = {}
        self.gangs: dict[str, Gang] = {}
        self.pending: dict[Ref, Call] = {}
        self.causes: dict[Call, BaseException] = {}  # a rank's own error, while its peers are still at it
        self.canvases = Canvases()
        self.hires = Hires()
        self.events: deque[Event] = deque()
        self.ground = Ground()
        self.next_look_s = 0.0
        self.pool = Pool(self.setup, Part(self.setup) if setup.job_id else None, growing=setup.gangs == 0)
        self.rendezvous = start_rendezvous() if setup.axes.ranks > 1 else None
        self.place = ray.get(self.rendezvous.address.remote()) if self.rendezvous else (node_address(), 0)
        for gang in sorted(self.pool.names):
            self._found(gang)
        for worker in setup.stages:
            self._hire(worker)

    def act(self, action: Action) -> None:
        """Begin a call, or forget one."""
        match action:
            case Run(worker, task):
                ref, bound_s = self.stages[worker].run(task), self.setup.task_timeout_s
                done = partial(Done, task.key, worker)
                self.pending[ref] = Call(worker, task.key, done, bound_s=bound_s)
            case Open(worker, shot, opening):
                self.canvases.open(shot.key, worker, opening)
                self._turn(worker, shot, opening, self.stages[worker].open(shot, opening))
            case Advance(worker, shot, opening, step):
                predictions, gpu_s = self.canvases.taken(shot, opening, step)
                answer = self.stages[worker].advance(shot, opening, predictions, gpu_s)
                self._turn(worker, shot, opening, answer)
            case Predict(gang, shot, window):
                self._predict(gang, shot, window)
            case Drop(worker, key, opening, save):
                self.stages[worker].drop(key, opening, save)
                self.canvases.close(key, opening)
            case Replace(worker):
                # Only now: until dispatch knew of the loss it went on asking for what lay there.
                self.canvases.close_all(worker)
                if self.pool.keeps(worker):
                    self._hire(worker)
                elif worker in self.gangs:  # there is another in its place by now
                    self.gangs.pop(worker).disband()

    def wait(self, most_s: float = WAIT_S) -> Sequence[Event]:
        """What has happened, once something has or so much time has passed."""
        self._give_up()
        self._notice()
        for worker in self.hires.due():
            self._found(worker) if worker in self.gangs else self._hire(worker)
        if not self.events and not self.pending:  # every task waits to be tried again
            time.sleep(most_s)
        elif not self.events:
            for ref in answered(list(self.pending), most_s):
                self._settle(ref)
            for worker, call in {call.worker: call for call in self.pending.values() if call.is_late}.items():
                self._lose(worker, hung(call))
        events, self.events = list(self.events), deque()
        return events

    def close(self) -> None:
        """End every process of this crew."""
        for gang in self.gangs.values():
            gang.disband()
        for stage in self.stages.values():
            stage.kill()
        if self.rendezvous is not None:
            ray.kill(self.rendezvous)
        self.pool.leave()

    def _notice(self) -> None:
        """Tell once of each node that is about to go, and have gangs come and go, every few seconds."""
        if time.monotonic() < self.next_look_s:
            return
        self.next_look_s = time.monotonic() + LOOK_S
        told, any_gone = self.ground.look()
        self.events += [Draining(host) for host in told]
        forming = self.gangs.keys() & self.hires.keys()
        for gang in placeless(self.gangs) if any_gone or forming else ():
            self._place(gang)
        going = self.ground.going(self.gangs)
        there = room(self.setup, self.ground.staying())
        hired = self.gangs.keys() - forming - going
        change = self.pool.look(there, going, hired, forming, self._busy_gangs() - forming)
        self.events += [Yielding(gang) for gang in sorted(change.go)]
        for gang in sorted(change.stop):
            self._unfound(gang)
        for gang in sorted(change.come):
            self._found(gang)

    def _busy_gangs(self) -> set[str]:
        return {call.worker for call in self.pending.values() if call.worker in self.gangs}

    def _give_up(self) -> None:
        """Let gangs go that were to and are idle. Dispatch knew of it a turn ago, and gives them nothing."""
        for gang in self.pool.emptied(self._busy_gangs()):
            self.gangs.pop(gang).disband()
            self.events.append(Lost(gang, GIVEN))

    def _found(self, gang: str) -> None:
        """Form a gang in a place of its own."""
        self.gangs[gang] = Gang(gang, self.setup, self.place)
        self._hire(gang)

    def _unfound(self, gang: str) -> None:
        """Form a gang no longer, which dispatch does not know yet."""
        self._drop_calls(gang)
        self.gangs.pop(gang).disband()
        self.hires.forget(gang)

    def _place(self, gang: str) -> None:
        """Give a gang a new place, whose node is gone; one that was idle is known to be lost only now."""
        if gang not in self.hires:
            self._lose(gang)
            return
        self._unfound(gang)
        self._found(gang)

    def _hire(self, worker: str) -> None:
        """Start a worker, in its predecessor's place if it had one."""
        self._drop_calls(worker)  # made of the predecessor after its death
        self.hires.begun(worker)
        if worker in self.gangs:
            refs, role, capacity = self.gangs[worker].form(), GANG, 1
        else:
            role = worker.rpartition("-")[0]
            self.stages[worker] = StageHandle(worker, self.setup)
            refs = [self.stages[worker].ready()]
            capacity = self.setup.canvases_per_conductor if role == "conduct" else 1

        def came(node: str | None) -> Event:
            self.ground.came(worker, node or "")
            return Hired(worker, role, capacity, node or "")

        self.pending |= dict.fromkeys(refs, Call(worker, "", came))

    def _hire_again(self, worker: str, why: BaseException | None) -> None:
        """Start a worker anew that died before its first call, or leave it alone for a while."""
        gang = self.gangs.get(worker)
        told = self.hires.parks(worker, [*self.gangs, *self.stages], gang.node() if gang else "", why)
        if told is None:
            self._hire(worker)
            return
        if gang is not None:
            gang.disband()
        self.events.append(Lost(worker, told))

    def _turn(self, worker: str, shot: ShotTask, opening: int, refs: list[Ref]) -> None:
        """Wait for a conductor's answer; its requests stay where they are."""
        head, *requests = refs

        def answer(turn: Turn) -> Event:
            if turn.outcome is not None:
                self.canvases.close(shot.key, opening)
                return Done(shot.key, worker, turn.outcome)
            self.canvases.turn(shot, opening, turn.step, requests)
            return Turned(shot.key, opening, turn.step)

        self.pending[head] = Call(worker, shot.key, answer, bound_s=self.setup.step_timeout_s)

    def _predict(self, gang: str, shot: ShotTask, window: Window) -> None:
        """Ask all ranks of a gang at once; the request is kept until one gang has answered."""
        fared, prediction = self.gangs[gang].predict(self.canvases.requests[window], window)

        def answer(fared: Fared) -> Event:
            self.canvases.predicted(window, prediction, fared.gpu_s)
            return Predicted(gang, window, fared)

        call = Call(gang, shot.key, answer, window, self.setup.step_timeout_s)
        self.pending |= dict.fromkeys(fared, call)

    def _settle(self, ref: Ref) -> None:
        """Turn one answer into an event; of a gang's answers the last one, or the first that is bad."""
        call = self.pending.pop(ref, None)
        if call is None:  # of a worker lost a moment ago
            return
        try:
            value = ray.get(ref)
        except errors.ObjectLostError:  # of a node that is gone: what lay there comes from a checkpoint again
            if call.key in self.canvases.conductors:
                self._lose(self.canvases.conductors[call.key])
            if call.window is not None:  # the gang lives: let dispatch know that it is free
                self.events.append(Predicted(call.worker, call.window))
        except GONE as error:
            self._lose(call.worker, of_memory(error), error)
        except errors.RayTaskError as error:
            self._blame(call, error.cause)
        else:
            if call in self.pending.values():
                return
            if call in self.causes:  # its peers were through before it failed
                self.events.append(call.raised(self.causes.pop(call)))
                return
            self.hires.pop(call.worker, None)
            self.events.append(call.answer(value))

    def _blame(self, call: Call, cause: BaseException) -> None:
        """A task that raised. In a gang of several an error of the collective may be another rank's death."""
        several = call.worker in self.gangs and self.setup.axes.ranks > 1
        cause = self.causes.get(call, cause) if of_peer(cause) else cause
        if call.key == "" or (several and is_collective(cause)):
            self._lose(call.worker, self._told(call), cause)
        elif gpu_failed(cause) or (several and ran_out(cause)):
            # Whatever a process computes on a GPU that failed is lost. Of a gang in which a rank ran out of
            # memory, which not all do alike, the others wait in a collective.
            self._lose(call.worker, judge(cause))
        elif call in self.pending.values():  # its peers will raise the same, or fail in the collective
            if not of_peer(cause):
                self.causes[call] = cause
        else:
            self.causes.pop(call, None)
            self.events.append(call.raised(cause))

    def _told(self, call: Call) -> Failure | None:
        """What a rank said of itself, where the error or the end of another was noticed first."""
        if call in self.causes:
            return judge(self.causes[call])
        return first_failure([ref for ref, other in self.pending.items() if other is call])

    def _lose(self, worker: str, failure: Failure | None = None, why: BaseException | None = None) -> None:
        """Report a worker lost, once, and see to it that nothing of it lives on."""
        self._drop_calls(worker)
        if worker in self.gangs:
            self.gangs[worker].kill()
        else:
            self.stages[worker].kill()
        if worker in self.hires:  # it never came to work, so dispatch does not know it
            self._hire_again(worker, why)
        else:
            self.events.append(Lost(worker, failure or self.ground.lost(worker)))

    def _drop_calls(self, worker: str) -> None:
        self.pending = {ref: call for ref, call in self.pending.items() if call.worker != worker}
        self.causes = {call: cause for call, cause in self.causes.items() if call.worker != worker}
