"""The `unlearn` command. Nothing heavy is imported until a stage needs it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from unlearn.runtime.errors import UserError, plain_errors, unknown
from unlearn.runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130
_COMMANDS = ("run", "list", "report", "compare", "audit")
_COMPOSED = {"run": "config", "audit": "audit"}  # commands whose arguments Hydra reads, and the root config of each

_HELP = """\
unlearn: remove chosen knowledge from a language model, and find out whether it is really gone.

commands:
  run       compose an experiment and run it: train, localize, unlearn, score, attack, report
  list      what there is to choose from: methods, localizers, datasets, models, ...
  report    rebuild report.html and report.md from what a run saved
  compare   one table, and a Pareto plot, over several runs
  audit     judge the metrics themselves: are they faithful, are they robust?

first steps:
  unlearn run                                  the built-in task: offline, on a CPU, in a minute or two
  unlearn run method=simnpo seed=1             another method, another seed
  unlearn run method=npo localize=wagle        only the weights that WAGLE selects may change
  unlearn run attack=standard                  more attacks on what was unlearned (attack=none: no attack)
  unlearn run dataset=tofu model=llama-3.2-1b-instruct
  unlearn run -m method=npo,simnpo,grad_diff   a sweep (-m: every combination of the values)
  unlearn run --config-dir DIR plugins=[my_module] method=mine   a method of your own
  unlearn compare outputs/*/                   who forgets what at which price
  unlearn audit                                which metrics to trust

`unlearn COMMAND --help` tells more."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 2 bad input (one line says what), 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with plain_errors():
            _dispatch(arguments)
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _dispatch(arguments: list[str]) -> None:
    if arguments and (root := _COMPOSED.get(arguments[0])):
        from unlearn.cli.hydra_app import run

        return run(arguments[1:], f"unlearn {arguments[0]}", root)
    if arguments and arguments[0] == "-sc":  # what a shell asks for on TAB; see README
        return _complete(arguments)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        raise unknown("command", arguments[0], _COMMANDS)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
    else:
        options.action(options)


def _complete(arguments: list[str]) -> None:
    """Tab completion by Hydra, which must not see the word `run` or `audit`; before it is there, the commands."""
    command, _, rest = os.environ.get("COMP_LINE", "unlearn run").partition(" ")
    word, space, line = rest.partition(" ")
    line, folder = _without(r"(?:--config-dir|-cd)[= ](\S+)", line)
    line, _ = _without(r"plugins=(\S*)", line)
    last = line.rpartition(" ")[2]
    if not space and word not in _COMPOSED:
        print(" ".join(name for name in _COMMANDS if name.startswith(word)))
    elif word == "list":
        from unlearn.cli.catalog import kinds

        print(" ".join(kind for kind in kinds(Path(folder) if folder else None) if kind.startswith(last)))
    elif root := _COMPOSED.get(word):
        if inside := re.fullmatch(r"(\w+)=\[((?:\w+,)*)(\w*)", last):  # a list, of which Hydra knows no choices
            from unlearn.cli.groups import choices, config_dirs

            group, before, begun = inside.groups()
            names = set(choices(group, config_dirs(Path(folder) if folder else None))) - set(before.split(","))
            return print(" ".join(f"{group}=[{before}{name}" for name in sorted(names) if name.startswith(begun)))
        from unlearn.cli.hydra_app import run

        os.environ["COMP_LINE"] = f"{command} {line}"
        run([*arguments, *(["--config-dir", folder] if folder else [])], command, root)


def _without(pattern: str, line: str) -> tuple[str, str]:
    """Return a line without a finished word of that pattern, and what its group matches ("" where there is none)."""
    found = re.search(rf"(?:^|(?<= )){pattern} ", line)
    return (line[: found.start()] + line[found.end() :], found[1]) if found else (line, "")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for any other bad input."""
        _fail(f"{message} (see: {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="unlearn", description=_HELP, formatter_class=raw, usage="unlearn COMMAND ...")
    parser.add_argument("--version", action="version", version=f"unlearn {__version__}")
    commands = parser.add_subparsers(prog="unlearn", dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    for command in _COMPOSED:
        commands.add_parser(command, add_help=False)

    listing = commands.add_parser(
        "list",
        formatter_class=raw,
        description="Show the choices of one kind, or of all, each with a line on what it is.\n\n"
        "  unlearn list            every kind\n  unlearn list methods    one kind\n\n"
        "A choice is used as GROUP=NAME, for example: unlearn run method=npo",
    )
    listing.add_argument("kind", nargs="?", help="methods, datasets, models, metrics, ...")
    listing.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder with further choices, as for run")
    listing.set_defaults(action=_list)

    report = commands.add_parser(
        "report",
        formatter_class=raw,
        description="Rebuild report.html and report.md of a run from the tables it saved; no model is loaded.\n\n"
        "  unlearn report outputs/NAME",
    )
    report.add_argument("run", type=Path, help="a run folder")
    report.set_defaults(action=_report)

    compare = commands.add_parser(
        "compare",
        formatter_class=raw,
        description="Put runs side by side: a table, here and in compare.html (sortable), compare.md and compare.csv,\n"
        "and a Pareto plot of forgetting against utility. Runs that differ in their seed alone are pooled.\n\n"
        "  unlearn compare outputs/a outputs/b --out outputs/comparison",
    )
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--out", type=Path, default=Path("outputs/comparison"), help="folder for the result (default: %(default)s)"
    )
    compare.set_defaults(action=_compare)
    return parser


def _list(options: argparse.Namespace) -> None:
    from unlearn.cli.catalog import print_catalog

    print_catalog(options.kind, options.config_dir)


def _report(options: argparse.Namespace) -> None:
    from unlearn.report.page import write_report
    from unlearn.report.summary import print_summary

    write_report(options.run)
    print_summary(options.run)


def _compare(options: argparse.Namespace) -> None:
    from unlearn.report.compare import compare

    compare(options.runs, options.out)


def _fail(message: str) -> NoReturn:
    print(f"unlearn: error: {message}", file=sys.stderr)
    sys.exit(2)
