"""Two real processes: what they do together, and that none outlives another in silence."""

import functools
import itertools
import signal
import socket
import time
from concurrent import futures

import pytest
from together import finish, free_port, run, start

from genlab.errors import InputError
from genlab.training import processes

TOGETHER = """
join()
meeting = pathlib.Path(arguments[0])


def refuse():
    raise InputError("no")


def error_of(function):
    try:
        processes.on_main(function)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print(processes.is_main(), processes.count())
print(processes.from_main(5 + number), processes.largest(-7 + 3 * number), processes.largest(7 - 3 * number))
print(processes.on_main(lambda: 40 + number), error_of(refuse))
for name in ("a", "b", "a"):  # a name may come again
    if number == 0:
        time.sleep(0.3)
        (meeting / name).write_text(name)
    processes.everyone_waits(name)
    print((meeting / name).exists())
    processes.everyone_waits("seen")
    (meeting / name).unlink(missing_ok=True)
time.sleep(1 - number)  # as when process 0 has more to write
processes.leave(0)
"""


LOST = """
processes.HEARTBEAT_SECONDS = 6
mesh = join()
where, who = arguments
split = NamedSharding(mesh, PartitionSpec("all"))
x = jax.make_array_from_process_local_data(split, np.full(1, number, np.float32))
mean = jax.jit(lambda x: x * 0 + x.mean(), out_shardings=split)
try:
    x = mean(x)
    print(x.addressable_data(0))
    if number == int(who):
        time.sleep(0.5)
        print("last", time.time())
        os.kill(os.getpid(), signal.SIGKILL)
    while where == "step":
        x = mean(x).block_until_ready()
    processes.everyone_waits("never")
except Exception as error:
    if processes.peer_is_gone(error):
        processes.abandon(error)
    raise
"""


OWN_END = """
join()
try:
    processes.largest(0)  # connects them; before, it takes the heartbeat's time
    if number == int(arguments[0]):
        raise InputError("not like this")
    processes.largest(0)
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    processes.leave(2)
except Exception as error:
    if processes.peer_is_gone(error):
        processes.abandon(error)
    raise
"""


SIGNALLED = """
from genlab.training.interruption import deferred_signals

join()
with deferred_signals() as received:
    for step in range(1000):
        if number == 1 and step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        if stop := processes.largest(received()):
            break
    print(step, stop)
processes.leave(128 + stop)
"""


ALONE = """
def join_or_say_why(*arguments):
    try:
        processes.join(*arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)


join_or_say_why(None, None, None)
join_or_say_why(address, 2, 2)
join_or_say_why(address, 2, number, 3)
processes.leave(2)
"""

NOT_DEFERRED = "join(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"


def lose(where, who):
    return run(LOST, 2, where, who), time.time()


def find_no_others():
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    started = [process for n in range(2) for process in start(ALONE, 2, numbers=[n], address=addresses[n])]
    return addresses, finish(started)


@pytest.fixture(scope="module")
def end(tmp_path_factory):
    """(what, ...) -> how its processes ended; all are under way side by side, for most of the time they wait."""
    cases = {
        ("together",): functools.partial(run, TOGETHER, 2, tmp_path_factory.mktemp("meeting")),
        **{("lost", *case): functools.partial(lose, *case) for case in itertools.product(("step", "wait"), (0, 1))},
        **{("own", failing): functools.partial(run, OWN_END, 2, failing) for failing in (0, 1)},
        ("signalled",): functools.partial(run, SIGNALLED, 2),
        ("not deferred",): functools.partial(run, NOT_DEFERRED, 1),
        ("alone",): find_no_others,
    }
    with futures.ThreadPoolExecutor(5) as pool:
        found = {case: pool.submit(call) for case, call in cases.items()}
        yield lambda *case: found[case].result()


def test_what_processes_do_together(end):
    first, second = end("together")
    assert (first.code, second.code) == (0, 0)
    assert first.err == second.err == []
    assert first.out[0] == "True 2" and second.out[0] == "False 2"
    assert first.out[1] == second.out[1] == "5 -4 7"
    assert first.out[2] == "40 InputError: no"
    assert second.out[2] == "40 MainError: process 0 could not, and says why"
    assert first.out[3:] == second.out[3:] == ["True"] * 3


@pytest.mark.parametrize("where", ["step", "wait"])
@pytest.mark.parametrize("lost", [0, 1])
def test_when_one_is_killed_the_other_ends_with_a_clear_last_line(where, lost, end):
    done, ended = end("lost", where, lost)
    assert [process.out[0] for process in done] == ["[0.5]"] * 2  # they did train together
    killed, left = done[lost], done[1 - lost]
    assert killed.code == -signal.SIGKILL
    assert ended - float(killed.out[1].split()[1]) < 60
    assert left.code not in (0, -signal.SIGKILL)
    again = "; start all of them again to go on from the newest checkpoint"
    assert left.err[-1].startswith(f"error: process {1 - lost} of 2 ") and left.err[-1].endswith(again)
    assert killed.err == [f"error: process {lost} of 2 was ended, by the loss of another or by a kill{again}"]
    assert not any("Traceback" in line for line in left.err)


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_by_itself_says_why_and_the_other_ends(failing, end):
    done = end("own", failing)
    assert done[failing].code == 2
    assert done[failing].err == ["error: not like this"]
    assert done[1 - failing].code not in (0, 2)
    assert done[1 - failing].err[-1].startswith(f"error: process {1 - failing} of 2 ")


def test_a_signal_to_one_stops_all_at_the_same_step(end):
    done = end("signalled")
    assert [process.out for process in done] == [["7 15"]] * 2
    assert [process.code for process in done] == [128 + 15] * 2
    assert [process.err for process in done] == [[], []]


def test_a_signal_that_nobody_defers_ends_a_process_as_always(end):
    """Which jax would prevent: it takes SIGTERM for the notice of a preemption, and goes on."""
    (done,) = end("not deferred")
    assert done.code == -signal.SIGTERM
    assert len(done.err) == 1 and done.err[0].startswith("error: process 0 of 1 was ended")


def test_one_that_finds_no_others_says_so(end):
    addresses, both = end("alone")
    for number, done in enumerate(both):
        nothing, beyond, alone = done.err
        assert done.code == 2
        assert nothing == (
            "error: cannot join a run of several processes (coordinator_address should be defined); give the address "
            "of process 0, the number of processes and this one's number, or start it by Slurm, MPI or on a TPU slice"
        )
        assert "process_id < num_processes. Got process_id=2, num_processes=2); give the" in beyond
        assert alone == (
            f"error: process {number} did not find all the others at {addresses[number]} within 3 s; "
            "start them all, and give them an address at which they reach process 0"
        )


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":12", "localhost:port", "localhost:65536", "host:0"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="; it must be host:port, with a port below 65536"):
        processes.check_address(address, serves=False)


def test_a_port_in_use_is_refused_to_the_one_that_is_to_serve_it():
    with socket.create_server(("", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        processes.check_address(address, serves=False)
        with pytest.raises(InputError, match=f"^cannot serve {address} .*; give another port$"):
            processes.check_address(address, serves=True)
    processes.check_address(address, serves=True)
    processes.check_address("[::1]:8476", serves=False)


def test_what_counts_as_the_loss_of_another(monkeypatch):
    loss = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:56557")
    other = ValueError("Incompatible shapes for broadcasting: (3,) and (4,)")
    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = loss
    assert not processes.peer_is_gone(loss)  # there is no other
    monkeypatch.setattr(processes, "_count", 2)
    assert processes.peer_is_gone(loss) and processes.peer_is_gone(wrapped)
    assert not processes.peer_is_gone(other)
    loss.__context__ = wrapped  # a ring
    assert not processes.peer_is_gone(other)


def test_one_process_waits_for_nobody():
    def refuse():
        raise InputError("no")

    processes.everyone_waits("anything")
    assert (processes.is_main(), processes.count()) == (True, 1)
    assert (processes.from_main(3), processes.largest(4), processes.on_main(lambda: 5)) == (3, 4, 5)
    with pytest.raises(InputError, match="no"):
        processes.on_main(refuse)
    for code in (0, 3):
        with pytest.raises(SystemExit) as left:
            processes.leave(code)
        assert left.value.code == code
