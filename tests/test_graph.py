"""What a student sees: the printed, drawn and exported graph, and the chain rule step by step."""

import doctest
import importlib
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitorch_ciml import keras
from minitorch_ciml.autograd import GraphError, Parameter, Scalar, Tensor
from minitorch_ciml.autograd.arithmetic import exp, maximum, relu, sin, tanh, where
from minitorch_ciml.autograd.engine import Op
from minitorch_ciml.autograd.graph import Graph
from minitorch_ciml.autograd.record import FREED
from minitorch_ciml.autograd.symbols import Symbol, derivatives, names_for
from minitorch_ciml.kernels.formula import in_words, write
from minitorch_ciml.ops import reshape

MODULES = ("autograd.graph", "autograd.symbols", "autograd.trace", "kernels.formula")


def neuron():
    x1, x2 = Scalar(0.5, False, "x1"), Scalar(-1.0, False, "x2")
    w1, w2, b = Scalar(0.3, name="w1"), Scalar(-0.7, name="w2"), Scalar(0.1, name="b")
    y = tanh(x1 * w1 + x2 * w2 + b)
    y.name = "y"
    loss = (y - 1) ** 2
    loss.name = "loss"
    return loss, (w1, w2, b)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"minitorch_ciml.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


# --- the listing --------------------------------------------------------------------------------


def test_listing_names_formulas_values_and_gradients():
    loss, _ = neuron()
    lines = str(loss.graph().backward()).splitlines()
    assert lines[0].split() == ["x1", "0.5"]
    assert "t3 = t1 + t2" in lines[7] and "0.85" in lines[7] and "gradient -0.2356" in lines[7]
    assert re.fullmatch(r"loss = t5 \*\* 2 +0\.06771 +gradient 1", lines[-1])
    assert len(lines) == 12  # the numbers 1 and 2 stand in formulas and have no line


def test_listing_of_tensors_shows_shape_mean_and_norm():
    w = Parameter(np.full((2, 3), 2.0, "float32"), name="w")
    r = relu(w * Tensor(np.ones((2, 3), "float32"), name="x"))
    text = str(r.graph().backward(np.ones((2, 3), "float32")))
    assert "w " in text and "(2, 3) mean 2, norm 4.899  gradient mean 1, norm 2.449" in text


def test_names_are_unique_and_generated_ones_avoid_given_ones():
    same, also, t1, unnamed = (Scalar(1.0, name=n) for n in ("w", "w", "t1", None))
    names = names_for([same, also, t1, unnamed])
    assert sorted(names.values()) == ["t1", "t2", "w", "w_1"]


def test_parameter_assigned_after_use_is_still_listed_before_its_results():
    w = Parameter([1.0], name="w")
    y = w * 2
    w.assign([3.0])
    graph = y.graph()
    assert graph.names[graph.variables[-1]] == "t1" and str(graph).splitlines()[0].startswith("w")


# --- gradients of everything --------------------------------------------------------------------


def test_graph_backward_gives_every_gradient_and_touches_nothing():
    loss, leaves = neuron()
    graph = loss.graph()
    assert graph.backward() is graph
    assert all(w.grad is None for w in leaves)
    found = [graph.gradient(w).value for w in leaves]
    loss.backward()  # the records are still there
    assert found == [w.grad.value for w in leaves]
    y = next(v for v in graph.variables if v.name == "y")
    assert graph.gradient(y).value == pytest.approx(2 * (y.value - 1))


def test_graph_of_several_outputs():
    a = Scalar(3.0, name="a")
    graph = Graph(a * 2, a * a).backward()
    assert graph.gradient(a).value == 8.0
    assert [graph.role(v) for v in graph.variables].count("result") == 2


def test_gradients_of_leaves_come_from_backward_without_graph_backward():
    loss, (w1, *_) = neuron()
    graph = loss.graph()
    loss.backward()
    assert graph.gradient(w1) is w1.grad
    assert "t1 = x1 * w1" in str(graph)  # made before backward freed the records


def test_freed_graph_says_so():
    loss, _ = neuron()
    loss.backward()
    freed = (loss * 2).graph()
    assert "loss = (freed)" in str(freed)
    assert "freed by an earlier backward" in str(freed).splitlines()[-1]
    assert "retain_graph=True" in str(freed)
    assert "(freed)" in freed.to_dot() and "(freed)" in freed.to_mermaid()
    texts = [t.get_text() for t in freed.draw().axes[0].texts]
    assert any("retain_graph=True" in t for t in texts)
    with pytest.raises(GraphError, match="freed"):
        freed.backward()


def test_graph_of_a_leaf_is_one_box():
    graph = Scalar(2.0, name="a").graph()
    assert str(graph) == "a  2" and repr(graph) == "<Graph of 1 variables and 0 operations>"
    assert graph.draw().axes
    assert str(Scalar(2.0, requires_grad=False).graph()).split() == ["2", "2"]


# --- exports ------------------------------------------------------------------------------------

AWKWARD = 'say "hi" <b> & #1 \\ `x`\nline $2'


def awkward():
    a = Scalar(1.0, name=AWKWARD)
    return (a * 2 - a).graph()


def test_dot_is_well_formed_and_escaped():
    dot = awkward().to_dot()
    declared = set(re.findall(r"^  (\w+) \[shape", dot, re.M))
    edges = re.findall(r"^  (\w+) -> (\w+);$", dot, re.M)
    assert len(edges) == 6 and {end for edge in edges for end in edge} <= declared
    assert r"say \"hi\" <b> & #1 \\ `x` line $2" in dot
    for line in dot.splitlines():
        assert line.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0


def test_mermaid_is_well_formed_and_escaped():
    text = awkward().to_mermaid()
    assert text.startswith("flowchart LR\n")
    labels = re.findall(r'\[+"(.*)"\]+|\(\("(.*)"\)\)', text)
    assert len(labels) == 6
    for label in ("".join(pair) for pair in labels):
        assert not re.search(r'["`\\&]|<(?!br/>)', label)
    declared = set(re.findall(r"^  (\w+)[\[(]", text, re.M))
    edges = re.findall(r"^  (\w+) --> (\w+)$", text, re.M)
    assert len(edges) == 6 and {end for edge in edges for end in edge} <= declared


# --- pictures -----------------------------------------------------------------------------------


def test_draw_saves_and_shows(tmp_path):
    loss, _ = neuron()
    graph = loss.graph().backward()
    figure = graph.draw(tmp_path / "neuron.png")
    assert (tmp_path / "neuron.png").read_bytes().startswith(b"\x89PNG")
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert {"loss", "×", "tanh", "gradient 1", "leaf", "result"} <= set(texts)
    assert "<svg" in graph._repr_svg_()


def test_importing_the_graph_imports_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys; from minitorch_ciml.autograd import Scalar; g = (Scalar(1.) * 2).graph();"
        "assert 'matplotlib' not in sys.modules; g.draw();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_layout_keeps_boxes_apart_and_edges_to_the_right(data):
    from minitorch_ciml.viz.graph import layered, nodes_of

    values = [Scalar(float(i)) for i in range(data.draw(st.integers(1, 4)))]
    for _ in range(data.draw(st.integers(1, 25))):
        a, b = (values[data.draw(st.integers(0, len(values) - 1))] for _ in "ab")
        values.append(a + b)
    boxes, circles = nodes_of(Graph(*values[-3:]))
    nodes = [*boxes.values(), *circles.values()]
    edges = layered(nodes)
    assert len(edges) == sum(3 for n in nodes if not n.role)
    for path in edges:
        assert all(n.x + n.column / 2 < m.x - m.column / 2 for n, m in zip(path, path[1:]))
        assert [m.layer - n.layer for n, m in zip(path, path[1:])] == [1] * (len(path) - 1)
    column: dict = {}
    for n in {n for path in edges for n in path}:
        column.setdefault(n.layer, []).append(n)
    for members in column.values():
        members.sort(key=lambda n: n.y)
        for low, high in zip(members, members[1:]):
            assert low.y + low.height / 2 < high.y - high.height / 2


# --- formulas -----------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
trees = st.recursive(
    names,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["add", "subtract", "multiply", "divide"]), inner, inner),
        st.tuples(st.sampled_from(["negative", "power"]), inner),
    ),
    max_leaves=12,
)


def written(tree):
    if isinstance(tree, str):
        return tree
    name, *inputs = tree
    return write(name, [written(x) for x in inputs] + ["2"] * (name == "power"))


def bracketed(tree):
    """The same formula with every parenthesis, so that no precedence matters."""
    if isinstance(tree, str):
        return tree
    name, *inputs = tree
    sign = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
    if name == "negative":
        return f"(-{bracketed(inputs[0])})"
    if name == "power":
        return f"({bracketed(inputs[0])} ** 2)"
    return f"({bracketed(inputs[0])} {sign[name]} {bracketed(inputs[1])})"


@settings(max_examples=200, deadline=None)
@given(trees)
def test_parentheses_are_right_and_only_where_needed(tree):
    import ast

    assert ast.dump(ast.parse(written(tree))) == ast.dump(ast.parse(bracketed(tree)))
    assert len(written(tree)) <= len(bracketed(tree))


def test_how_formulas_and_values_are_written():
    assert write("sum", ["x"], {"axis": (0,), "keepdims": False}) == "sum(x, axis=(0,))"
    assert (
        write("getitem", ["x"], {"index": (slice(1, None), ...)}) == "getitem(x, index=(1:, ...))"
    )
    assert write("conv", ["x", "w"], {"strides": (1,) * 20}) == "conv(x, w, ...)"
    assert write("subtract", ["a", "-1"]) == "a - (-1)"
    assert write("cast", ["x"], {"dtype": np.dtype("float32")}) == "x"
    assert (
        in_words(1 / 3) == "0.3333"
        and in_words(-0.0) == "0"
        and in_words([[True, 2.0]]) == "[[1, 2]]"
    )


UNARY = {"tanh": tanh, "exp": exp, "sin": sin, "relu": relu}


BINARY = ["a * b", "a / b", "a - b", "a ** b", "maximum(a, b)"]
numbers_near_one = st.floats(0.5, 2.0)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*BINARY, *UNARY]), numbers_near_one, numbers_near_one)
def test_symbolic_rules_evaluate_to_the_gradients(formula, first, second):
    """The printed formula, read by Python, gives what the rule gives: names, signs, brackets."""
    a, b, g = Scalar(first, name="a"), Scalar(second, name="b"), Scalar(0.7)
    known = {**UNARY, "maximum": maximum, "where": where, "a": a, "b": b}
    y = UNARY[formula](a) if formula in UNARY else eval(formula, known)
    record = y.record
    symbols = [Symbol.of(x, x.name) for x in record.inputs]
    rules = derivatives(
        record, Symbol.of(y, "y"), symbols, Symbol.of(g, "g"), [True] * len(symbols)
    )
    numbers = {k: v for k, v in known.items() if callable(v)}
    numbers["log"] = np.log
    numbers["where"] = np.where
    numbers.update({n: getattr(np, n) for n in ("exp", "sin", "cos")})
    y.backward(0.7)
    for x, rule in zip(record.inputs, rules):
        value = eval(rule.text, numbers, {"a": first, "b": second, "g": 0.7, "y": y.value})
        assert float(value) == pytest.approx(x.grad.value, rel=1e-9)
        assert float(rule.array) == pytest.approx(x.grad.value, rel=1e-9)


# --- the trace ----------------------------------------------------------------------------------


def test_trace_shows_rules_numbers_and_sums(capsys):
    a, b = Scalar(2.0, name="a"), Scalar(3.0, name="b")
    ((a * b) / (a + 1)).backward(trace=True)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("Backward from t3 = 2.")
    assert "t3 = t1 / t2 = 6 / 3 = 2, g = 1" in lines
    assert "d/dt2 = -g * t3 / t2 = -1 * 2 / 3 = -0.6667" in lines
    assert "d/da = g = -0.6667; a.grad = -0.6667" in lines
    assert "d/da = g * b = 0.3333 * 3 = 1; a.grad = -0.6667 + 1 = 0.3333" in lines
    assert a.grad.value == pytest.approx(1 / 3)


def test_trace_starts_from_the_gradient_that_is_there(capsys):
    a = Scalar(2.0, name="a")
    for _ in range(2):
        (a * 3).backward(trace=True)
    assert "a.grad = 3 + 3 = 6" in capsys.readouterr().out
    assert a.grad.value == 6.0


def test_trace_computes_constants_in_rules(capsys):
    (Scalar(2.0, name="a") ** 3).backward(trace=True)
    assert "d/da = g * 3 * a ** 2 = 1 * 3 * 2 ** 2 = 12" in capsys.readouterr().out


def test_trace_of_tensors_summarises_and_names_the_undone_broadcast(capsys):
    w = Parameter([0.5, 1.0], name="w")
    y = w * Tensor(np.ones((3, 2), "float32"), name="x")
    y.backward(np.ones((3, 2), "float32"), trace=True)
    out = capsys.readouterr().out
    assert "t1 = w * x = (3, 2) mean 0.75, norm 1.936" in out
    assert "d/dw = g * x, summed to shape (2,), = [3, 3]; w.grad = [3, 3]" in out


def test_trace_writes_rules_that_look_at_shapes(capsys):
    x = Tensor(np.ones((2, 3), "float32"), name="x", requires_grad=True)
    reshape(x, (6,)).backward(np.ones(6, "float32"), trace=True)
    assert "d/dx = reshape(g, shape=(2, 3)) = (2, 3) mean 1" in capsys.readouterr().out


def test_trace_of_a_matrix_product(capsys):
    x, w = Tensor([[1.0, 2.0]], name="x"), Parameter([[0.5], [2.0]], name="w")
    (x @ -w).backward(trace=True)
    out = capsys.readouterr().out
    assert "t2 = x @ t1 = [[1, 2]] @ [[-0.5], [-2]] = [[-4.5]], g = [[1]]" in out
    assert "d/dt1 = x.T @ g = [[1, 2]].T @ [[1]] = [[1], [2]]" in out
    assert write("transpose", [write("add", ["a", "b"])], {"axes": None}) == "(a + b).T"
    assert write("transpose", ["a"], {"axes": (1, 0, 2)}) == "transpose(a, axes=(1, 0, 2))"


def test_trace_names_the_op_where_a_rule_cannot_be_written(capsys):
    def rule(g, y, a, b):
        return Tensor(g.value * 2.0)  # looks at the numbers themselves

    double = Op("add", rule, None)
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    double(x, x).backward([1.0, 1.0], trace=True)
    assert "d/dx = the rule of add = [2, 2]; x.grad = [2, 2]" in capsys.readouterr().out
    assert x.grad.tolist() == [2.0, 2.0]


def test_trace_changes_no_result():
    plain, traced = neuron(), neuron()
    plain[0].backward()
    traced[0].backward(trace=True)
    assert [w.grad.value for w in plain[1]] == [w.grad.value for w in traced[1]]


def test_trace_with_create_graph_differentiates_twice(capsys):
    a = Scalar(2.0, name="a")
    (a**3).backward(create_graph=True, trace=True)
    first = a.grad
    a.zero_grad()
    first.backward()
    assert a.grad.value == pytest.approx(12.0)
    assert "d/da" in capsys.readouterr().out


def test_weights_are_named_with_their_layer():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.Dense(1, name="answer"),
        ]
    )
    text = str(model(np.ones((1, 2), "float32")).sum().graph())
    assert "dense(t1, hidden.kernel, hidden.bias" in text
    assert "answer.kernel" in text


def test_trace_writes_what_a_fused_op_means(capsys):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="hidden")])
    x = Tensor(np.ones((5, 3), "float32"), requires_grad=True, name="x")
    model(x).sum().backward(trace=True)
    out = capsys.readouterr().out
    assert "d/dx = g @ hidden.kernel.T = " in out
    assert "d/d(hidden.kernel) = x.T @ g = " in out
    assert "d/d(hidden.bias) = sum_to(g, shape=(4,)) = " in out


def test_trace_leaves_out_formulas_that_would_fill_the_screen(capsys):
    p = Tensor(np.array([[0.2], [0.7]], "float32"), requires_grad=True, name="p")
    keras.losses.binary_crossentropy(np.ones((2, 1), "float32"), p).sum().backward(trace=True)
    assert "d/dp = the rule of binary_crossentropy = " in capsys.readouterr().out


# --- the film -----------------------------------------------------------------------------------


def test_a_film_shows_every_step_and_changes_nothing(tmp_path):
    from PIL import Image

    a, b = Scalar(3.0, name="a"), Scalar(2.0, name="b", requires_grad=False)
    a.grad = Scalar(100.0)
    y = a * a + a * b
    film = y.graph().film(tmp_path / "film.gif")
    assert a.grad.value == 100 and y.record is not FREED
    assert [film.graph.names[active[0]] for _, active, _ in film.steps] == ["t3", "t2", "t1"]
    assert "a.grad = 2 + 3 = 5" in film.steps[-1][0]
    so_far = [gradients.get(a) for _, _, gradients in film.steps]
    assert [g and g.value for g in so_far] == [None, 2, 8]
    pictures = list(film.pictures())
    assert len(pictures) == len(film) == 5
    assert len({tuple(picture.get_size_inches()) for picture in pictures}) == 1
    shown = [{text.get_text() for text in p.axes[0].texts} for p in pictures]
    assert not any("gradient" in text for text in shown[0]) and "gradient 8" in shown[-1]
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 5
    assert film._repr_html_().startswith("<img ")
    with pytest.raises(ValueError, match="must end in .gif, got 'film.png'"):
        film.save("film.png")


def test_a_film_can_be_shown_after_the_graph_was_freed():
    a = Scalar(3.0, name="a")
    end = a * a + a
    film = end.graph().film()
    before = film._repr_html_()
    end.backward()
    a.zero_grad()
    assert film._repr_html_() == before


def test_a_film_takes_a_gradient_to_start_from():
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x * 2.0
    film = y.graph().film(gradient=Tensor([1.0, 10.0]))
    np.testing.assert_array_equal(film.steps[-1][2][x], [2, 20])
    with pytest.raises(ValueError, match="not a scalar"):
        y.graph().film()
