"""From a command line to a config and a workdir; every mistake on it is one clear line.

python -m experiments.<family> --config=configs/<recipe>.py[:variant] [--workdir=DIR] [--config.x=y]

Of a run on several hosts every one gives the same command line, with --distributed where Slurm or a TPU slice say who
they are, elsewhere with --coordinator=HOST:PORT --num_processes=N and its own --process_id=0, ..., N - 1.
"""

import difflib
import errno
import functools
import pathlib
import re
import runpy
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from genlab.errors import InputError
from genlab.training import processes
from genlab.training.checkpoint import CheckpointError
from genlab.training.interruption import InterruptedRun
from genlab.training.loop import DivergedError

CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe: configs/<recipe>.py[:variant].", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; by default runs/<recipe>[-variant].")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes, as Slurm, MPI or a TPU slice says.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, as the others reach it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes hold this run.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This one's number, from 0.", lower_bound=0)


class Launch(NamedTuple):
    """What the command line asked for.

    Attributes:
        config: resolved and locked.
        recipe: the config's file name, with "-variant" where there is one.
        workdir: where the run lives.
        command: the command line, to be run again.
        module: the entry point, "experiments.<family>", whose `build` makes the algorithm.
    """

    config: ml_collections.ConfigDict
    recipe: str
    workdir: pathlib.Path
    command: str
    module: str = ""


def launch(module: str, experiment: Callable[[Launch], None]) -> None:
    """Runs `python -m <module>`; exits with 2 on bad input, 1 on a failed run, 128 + signal when interrupted."""
    app.run(lambda _: _run(module, experiment), flags_parser=_parse)


def launch_tool(module: str, tool: Callable[[list[str]], None], usage: str) -> None:
    """Runs `python -m <module>`, which takes finished runs instead of a config; mistakes end as in `launch`.

    Args:
        module: for messages.
        tool: given the positional arguments; its own flags it has defined.
        usage: shown by --help.
    """

    def parse(argv: list[str]) -> list[str]:
        if {"-h", "--help", "--helpshort", "--helpfull"} & set(argv):
            print(usage)
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            fail(f"{error}; python -m {module} --help says what there is", 2)

    def run(arguments: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        try:
            tool(arguments[1:])
        except InputError as error:
            fail(str(error), 2)
        except InterruptedRun as stop:
            fail(f"{stop}; the same command resumes it", 128 + stop.signal)
        except (CheckpointError, DivergedError) as error:
            fail(str(error), 1)
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}", 1)

    app.run(run, flags_parser=parse)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, then the exit."""
    sys.stdout.flush()
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")  # the progress line stands there
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _parse(argv: list[str]) -> list[str]:
    try:
        if {"-h", "--help", "--helpshort", "--helpfull"} & set(argv):
            show_help(argv)
        default = check_config_flags(argv[1:])
        rest = flags.FLAGS(argv)
        check_tuples(default, CONFIG.value)
    except (InputError, flags.Error, TypeError, ValueError) as error:
        fail(re.sub(r"^flag --(config\.\S+?)=(.*?): ", r"\1=\2: ", str(error)), 2)
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}; options are written --name=value", 2)
    return rest


def show_help(argv: list[str]) -> NoReturn:
    """How to call an experiment, and with a --config all of its fields; then the exit."""
    print(__doc__)
    rest = [argument for argument in argv[1:] if "help" not in argument and argument != "-h"]
    if any(argument.startswith("--config") for argument in rest):
        config = check_config_flags(rest)
        for field in fields(config):
            value = functools.reduce(getattr, field.split("."), config)
            if not isinstance(value, ml_collections.ConfigDict):
                print(f"  --config.{field}={value!r}")
    else:
        print("With --config=FILE, --help lists the fields; the file says what they and its variants are.")
    sys.exit(0)


def check_config_flags(arguments: list[str]) -> ml_collections.ConfigDict:
    """The config before its overrides.

    Raises:
        InputError: no --config, a file that is not there, or a --config.x.y that it has not.
    """
    config = None
    for position, argument in enumerate(arguments):
        name, _, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or not re.match(r"(no)?config(\.|$)", name):
            continue
        if name == "config":
            config = load_config(value or next(iter(arguments[position + 1 :]), ""))
        elif config is None:
            raise InputError(f"--config=FILE must come before {argument}")
        else:
            field, known = name.partition(".")[2], list(fields(config))
            if field not in known:
                near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
                hint = f"did you mean config.{near[0]}?" if near else f"known: {', '.join(known)}"
                raise InputError(f"unknown config field config.{field}; {hint}")
    if config is None:
        raise InputError("no --config given; for example --config=configs/vae.py")
    return config


def check_tuples(default: ml_collections.ConfigDict, config: ml_collections.ConfigDict) -> None:
    """Raises InputError for a tuple whose elements are not of the default's type, which the parser lets pass."""
    for field in fields(default):
        before, now = (functools.reduce(getattr, field.split("."), block) for block in (default, config))
        if isinstance(before, tuple) and before and any(type(element) is not type(before[0]) for element in now):
            raise InputError(f"config.{field} is {now}; its elements must be {type(before[0]).__name__}")


def load_config(source: str) -> ml_collections.ConfigDict:
    """The config that "path.py" or "path.py:variant" names."""
    path, _, variant = source.partition(":")
    if not pathlib.Path(path).is_file():
        raise InputError(f"no config file {path!r}")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is None:
            raise InputError(f"{path} has no get_config()")
        return get_config(variant) if variant else get_config()
    except ValueError:  # of an unknown variant, and says so
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def fields(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, blocks included."""
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, ml_collections.ConfigDict):
            yield from fields(value, f"{prefix}{name}.")


def _run(module: str, experiment: Callable[[Launch], None]) -> None:
    named = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if not DISTRIBUTED.value and all(value is None for value in named):
        return _run_alone(module, experiment)

    def join() -> None:
        print("waiting for the other processes, up to a minute", file=sys.stderr, flush=True)
        processes.join(*named)

    code = 0
    try:
        _run_alone(module, experiment, join)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if processes.peer_is_gone(error):
            processes.abandon(error)
        traceback.print_exc()
        code = 1
    processes.leave(code)


def _run_alone(module: str, experiment: Callable[[Launch], None], join: Callable[[], None] = lambda: None) -> None:
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    recipe = pathlib.Path(path).stem + (f"-{variant}" if variant else "")
    workdir = pathlib.Path(WORKDIR.value or f"runs/{recipe}")
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    logging.set_verbosity(logging.WARNING)  # the checkpoint library narrates at INFO
    # a cache that is full or damaged costs time and nothing else
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    try:
        join()
        experiment(Launch(CONFIG.value, recipe, workdir, command, module))
    except InputError as error:
        fail(str(error), 2)
    except InterruptedRun as stop:
        fail(f"{stop}; the same command resumes it", 128 + stop.signal)
    except CheckpointError as error:
        fail(str(error), 1)
    except DivergedError as error:
        fail(f"{error}; earlier checkpoints in {workdir / 'checkpoints'} are intact", 1)
    except processes.MainError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on from the newest checkpoint", 130)
    except OSError as error:
        if isinstance(error, PermissionError):
            fail(f"cannot write {error.filename or workdir}: {error.strerror}", 1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        fail(f"no space left for {workdir}; its checkpoints are intact, the same command resumes", 1)
