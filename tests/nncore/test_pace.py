"""Pace: the faster of a team and one thread is found, kept, and looked for again."""

import time

import numpy as np
import pytest
from nncore.pace import LONGEST, SHARE, TRIAL, Pace

import nncore
from nncore import Op, Program, new_state


def simulate(team, alone, until, threads=2):
    """Seconds spent in each way until a time; ``team(now)`` and ``alone(now)`` are seconds a step."""
    pace, now, spent = Pace(), 0.0, {False: 0.0, True: 0.0}
    while now < until:
        one, stretch = pace.choose(now, threads)
        assert stretch > 0
        took = (alone if one else team)(now)
        steps = max(1, int(min(stretch, 0.05) / took))
        pace.saw(one, steps, now, now + steps * took)
        spent[one] += steps * took
        now += steps * took
    return pace, spent


@pytest.mark.parametrize("team, alone", [(20e-6, 15e-6), (15e-6, 20e-6), (2e-3, 1e-3), (1e-3, 2e-3), (0.1, 0.18)])
def test_the_faster_way_is_found_and_trials_are_cheap(team, alone):
    pace, spent = simulate(lambda now: team, lambda now: alone, 60.0)
    assert pace.alone == (alone < team)
    wrong = spent[not pace.alone]
    assert wrong <= 60 / SHARE + 3 * max(TRIAL, 2 * SHARE * min(team, alone) if team > TRIAL else 0, team, alone)


@pytest.mark.parametrize("threads, team", [(16, 0.06), (64, 0.5), (64, 1e-3), (2, 0.03)])
def test_no_trial_keeps_a_signal_waiting(threads, team):
    longest = []

    def alone(now):
        longest.append(threads * team)
        return threads * team

    _, spent = simulate(lambda now: team, alone, 60.0, threads)
    assert max(longest, default=0) <= LONGEST
    assert spent[True] <= 60 / SHARE + LONGEST


def test_a_busy_machine_is_noticed_and_so_is_its_end():
    def team(now):  # every meeting waits for a time slice while something else runs
        return 0.06 if 10 < now < 20 else 1.6e-3

    def alone(now):
        return 4e-3 if 10 < now < 20 else 2.9e-3

    pace, _ = simulate(team, alone, 10.0)
    assert not pace.alone
    pace, spent = simulate(team, alone, 20.0)
    assert pace.alone and spent[False] < 12
    pace, _ = simulate(team, alone, 30.0)
    assert not pace.alone


def test_a_program_runs_all_steps_whatever_it_tries(rng):
    x, y = np.ones((64, 64), np.float32), np.zeros((64, 64), np.float32)
    op = Op("chain", out=y, x=x, rows=64, cols=64, ld_out=64, ld_x=64, threads=2)
    program = Program([op], new_state(batch=3))
    nncore.set_num_threads(0)
    if nncore.get_num_threads() == 1:
        pytest.skip("one CPU: there is nothing to choose")
    total, deadline = 0, time.monotonic() + 60
    while len(program.pace.seconds) < 2:  # both ways have been tried
        assert program.run(5000) == 5000
        total += 5000
        assert program.state[nncore.memory.DRAW] == total and program.state[nncore.memory.ROW] == 3 * total
        assert time.monotonic() < deadline
    done = program.run(10**9, seconds=0.02)
    assert 0 < done < 10**9 and program.state[nncore.memory.DRAW] == total + done


def test_a_team_that_is_asked_for_is_taken():
    x = np.ones((64, 64), np.float32)
    program = Program([Op("chain", out=x, x=x, rows=64, cols=64, ld_out=64, ld_x=64, threads=2)], new_state())
    nncore.set_num_threads(2)
    program.run(1000)
    assert not program.pace.seconds
