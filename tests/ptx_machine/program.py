"""PTX text, taken apart: registers, variables, and basic blocks of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

# The type of each of PTX's fundamental types ("PTX ISA", 5.2.1); bits are unsigned integers.
TYPES = {
    "pred": np.bool_, "b8": np.uint8, "u8": np.uint8, "s8": np.int8,
    "b16": np.uint16, "u16": np.uint16, "s16": np.int16, "f16": np.float16, "bf16": np.uint16,
    "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32, "f16x2": np.uint32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "f64": np.float64,
}  # fmt: skip

# Instructions at which threads wait for others: a block's, a warp's, or four warps'.
_MEETINGS = {
    "bar.sync": "block", "barrier.sync": "block", "bar.warp.sync": "warp", "shfl.sync": "warp",
    "vote.sync": "warp", "match": "warp", "redux.sync": "warp", "ldmatrix.sync": "warp",
    "stmatrix.sync": "warp", "mma.sync": "warp", "wgmma": "warp group",
}  # fmt: skip


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        parts: of its name, such as ("add", "s32").
        operands: names and numbers; lists of them where the text has braces.
        guard: the predicate under which a thread does it, with "!" for its contrary; or "".
        text: as it stands.
    """

    parts: tuple[str, ...]
    operands: list
    guard: str
    text: str

    @property
    def meeting(self) -> str:
        """Who has to be there together: "block", "warp", "warp group", or ""."""
        for n in (3, 2, 1):
            found = _MEETINGS.get(".".join(self.parts[:n]))
            if found:
                return found
        return ""


class Variable(NamedTuple):
    """A named place in memory.

    Attributes:
        space: "shared", "local", "global", "const", or "param".
        is_extern: whether its size comes with the launch.
        values: bytes that it starts with.
    """

    name: str
    space: str
    alignment: int
    size: int
    is_extern: bool
    values: bytes


@dataclass
class Segment:
    """Instructions that a thread does one after the other; only the first can be a meeting."""

    instructions: list[Instruction] = field(default_factory=list)

    @property
    def meeting(self) -> str:
        return self.instructions[0].meeting if self.instructions else ""


@dataclass
class Program:
    """A kernel.

    Attributes:
        parameters: their names and types, in order.
        registers: the type of each, by name; prefixes such as "%r" stand for all their numbers.
        segments: in the text's order; threads go from one to the next.
        labels: the number of the segment that each stands before.
    """

    name: str
    parameters: list[tuple[str, str]]
    variables: dict[str, Variable]
    registers: dict[str, str] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    made: int = 0  # names that were made up

    def type_of(self, register: str) -> str:
        """The type with which a register was declared."""
        return self.registers.get(register) or self.registers[register.rstrip("0123456789")]


_VARIABLE = re.compile(
    r"(?P<extern>\.extern )?(?:\.visible |\.common |\.weak )?"
    r"\.(?P<space>shared|local|global|const) (?:\.align (?P<align>\d+) )?"
    r"\.(?P<type>\w+)\s+(?P<name>[\w$%]+)"
    r"(?P<size>\[\d*\])?(?:\s*=\s*(?P<values>.*))?$"
)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\((.*?)\)", re.DOTALL)
_PARAMETER = re.compile(
    r"\.param\s+\.(\w+)\s+(?:\.ptr\s+(?:\.global\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)"
)
_LABEL = re.compile(r"([$\w]+):")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(.*)", re.DOTALL)
_FUNCTION = re.compile(r"\.func\s*(?:\(([^()]*)\))?\s*([\w$]+)\s*\(([^()]*)\)\s*\{")
_NAME = re.compile(r"([\w$]+)(?:\[\d+\])?\s*(?:,|$)")


def parse(text: str) -> Program:
    """The one kernel of a PTX file."""
    text = re.sub(r"//[^\n]*", "", text)
    entry = _ENTRY.search(text)
    assert entry, "no kernel"
    start = text.index("{", entry.end())
    variables = {}
    for statement in text[: entry.start()].split(";"):
        if found := _variable(" ".join(statement.split())):
            variables[found.name] = found
    parameters = [(name, kind) for kind, name in _PARAMETER.findall(entry[2])]
    functions = {
        found[2]: Function(_NAME.findall(found[1] or ""), _NAME.findall(found[3]), found.end() - 1)
        for found in _FUNCTION.finditer(text)
    }
    program = Program(entry[1], parameters, variables)
    program.segments.append(Segment())
    _Body(program, text, start, functions).read()
    return program


def _variable(statement: str) -> Variable | None:
    found = _VARIABLE.search(statement)
    if not found:
        return None
    kind = np.dtype(TYPES[found["type"]])
    count = int((found["size"] or "[1]")[1:-1] or 0)
    values = b""
    if found["values"]:
        numbers = [int(n, 0) for n in re.findall(r"-?\w+", found["values"])]
        values = np.array([n % (1 << 8 * kind.itemsize) for n in numbers]).astype(kind).tobytes()
    alignment = int(found["align"] or kind.itemsize)
    size = count * kind.itemsize
    is_extern = bool(found["extern"]) or not count
    return Variable(found["name"], found["space"], alignment, size, is_extern, values)


def _argument(statement: str) -> Variable | None:
    """A place for a call's argument or result: local memory, which the called function sees."""
    found = re.fullmatch(r"\.param (?:\.align (\d+) )?\.(\w+) (\w+)(?:\[(\d+)\])?", statement)
    if not found:
        return None
    size = np.dtype(TYPES[found[2]]).itemsize
    return Variable(found[3], "local", int(found[1] or size), size * int(found[4] or 1), False, b"")


class Function(NamedTuple):
    """A function that a kernel calls: the names of its results and parameters, and its body."""

    results: list[str]
    parameters: list[str]
    start: int


class _Body:
    """Reads what stands between a kernel's braces, with the functions that it calls in their place.

    Args:
        start: of the body in the text.
        prefix: of the names of a called function's registers and labels; "" for the kernel.
        names: what a called function's results and parameters are for its caller.
    """

    def __init__(
        self, program: Program, text: str, start: int, functions: dict[str, Function],
        prefix: str = "", names: dict[str, str] | None = None,
    ):  # fmt: skip
        self.program = program
        self.text = text
        self.start = start
        self.functions = functions
        self.prefix = prefix
        self.names = names or {}
        self.scopes: list[dict[str, str]] = []  # names that braces declare for themselves

    def read(self) -> None:
        at = self.start
        while True:
            while self.text[at].isspace():
                at += 1
            if self.text[at] == "{":
                self.scopes.append({})
                at += 1
            elif self.text[at] == "}":
                self.scopes.pop()
                at += 1
                if not self.scopes:
                    return
            elif label := _LABEL.match(self.text, at):
                self._label(self.prefix + label[1])
                at = label.end()
            else:
                end = self.text.index(";", at)
                self._statement(" ".join(self.text[at:end].split()))
                at = end + 1

    def _label(self, name: str) -> None:
        self._next_segment()
        self.program.labels[name] = len(self.program.segments) - 1

    def _next_segment(self) -> None:
        if self.program.segments[-1].instructions:
            self.program.segments.append(Segment())

    def _statement(self, statement: str) -> None:
        if declared := _REGISTERS.match(statement):
            for name in declared[2].split(","):
                self._declare(name.strip(), declared[1])
        elif found := _variable(statement):
            self.program.variables[found.name] = found
        elif found := _argument(statement):
            own = self.scopes[-1][found.name] = self._unique(found.name)
            self.program.variables[own] = found._replace(name=own)
        elif statement.startswith("call"):
            self._call(statement)
        elif statement and not statement.startswith("."):
            instruction = self._instruction(statement)
            if instruction.meeting:
                self._next_segment()
            self.program.segments[-1].instructions.append(instruction)
            if instruction.parts[0] in ("bra", "ret", "exit"):
                self._next_segment()

    def _declare(self, name: str, kind: str) -> None:
        if many := re.fullmatch(r"([\w%$]+)<\d+>", name):
            self.program.registers[f"{many[1][0]}{self.prefix}{many[1][1:]}"] = kind
        else:
            own = self.scopes[-1][name] = self._unique(name)
            self.program.registers[own] = kind

    def _unique(self, name: str) -> str:
        self.program.made += 1
        return f"{name}@{self.program.made}"

    def _call(self, statement: str) -> None:
        """Puts the function's body here."""
        results, name, given = re.fullmatch(
            r"call\.uni (?:\((.*?)\) ?, ?)?([\w$]+) ?, ?\((.*?)\)", statement
        ).groups()
        function = self.functions[name]
        outer = [self._named(word.strip()) for word in [*results.split(","), *given.split(",")]]
        names = dict(zip([*function.results, *function.parameters], outer, strict=True))
        prefix = self._unique("call") + "@"
        _Body(self.program, self.text, function.start, self.functions, prefix, names).read()
        self._label(f"{prefix}end")

    def _instruction(self, statement: str) -> Instruction:
        guard = ""
        if statement.startswith("@"):
            guard, statement = statement[1:].split(None, 1)
            guard = "!" + self._named(guard[1:]) if guard[0] == "!" else self._named(guard)
        name, _, rest = statement.partition(" ")
        if name == "ret" and self.prefix:
            name, operands = "bra", [f"{self.prefix}end"]
        elif name.startswith("bra"):
            operands = [self.prefix + rest]
        else:
            operands = self._operands(rest)
        return Instruction(tuple(name.split(".")), operands, guard, statement)

    def _operands(self, text: str) -> list:
        found: list = []
        for part in re.findall(r"\{[^}]*\}|[^,{}\s](?:[^,{}]*[^,{}\s])?", text):
            if part.startswith("{"):
                found.append([self._named(word.strip()) for word in part[1:-1].split(",")])
            elif part.startswith("["):
                inner = part[1:-1].strip()
                base, sign, offset = re.match(r"([^+\-]+)([+-]*)(.*)", inner).groups()
                found.append(f"[{self._named(base.strip())}{sign[-1:]}{offset}]")
            else:
                found.append("|".join(self._named(word.strip()) for word in part.split("|")))
        return found

    def _named(self, word: str) -> str:
        for scope in reversed(self.scopes):
            if word in scope:
                return scope[word]
        if word in self.names:
            return self.names[word]
        inner = f"%{self.prefix}{word[1:]}" if word.startswith("%") else word
        return inner if inner.rstrip("0123456789") in self.program.registers else word
