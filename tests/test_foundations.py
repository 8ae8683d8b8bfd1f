"""What everything else stands on: registry, configuration, seeds, files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from fedpeft import errors, registry
from fedpeft.config import ConfigModel, override, parse, parse_override, read_toml
from fedpeft.errors import ArtifactError, ConfigError, FedpeftError, InputError
from fedpeft.files import (
    atomic_path,
    fingerprint,
    read_json,
    read_metadata,
    read_tensors,
    write_json,
    write_tensors,
    write_text,
)
from fedpeft.registry import Registry
from fedpeft.seeding import numpy_rng, sequence, torch_rng


class Engine(ConfigModel):
    power: int = Field(3, ge=1)
    fuel: str = "air"


class Car(ConfigModel):
    engine: Engine = Engine()
    doors: int = 4

    @model_validator(mode="after")
    def _consistent(self) -> Car:
        if self.doors == 13:
            raise ValueError("13 doors bring bad luck, got 13")
        return self


class TestErrors:
    def test_exit_codes(self) -> None:
        for name in ("ConfigError", "DataError", "ArtifactError", "MissingExtraError"):
            kind = getattr(errors, name)
            assert issubclass(kind, InputError)
            assert issubclass(kind, FedpeftError)
            assert kind.exit_code == 2
        assert errors.RunError.exit_code == errors.CollapseError.exit_code == 3
        assert issubclass(ConfigError, ValueError)
        assert issubclass(errors.MissingExtraError, ImportError)


class TestRegistry:
    def test_registered_parts_are_found_in_order(self) -> None:
        cars: Registry[Car] = Registry("car", "cars")
        for name in ("van", "bus", "t34", "x"):
            cars.register(name, config=Car, build=Car)
        assert cars.names() == ["bus", "t34", "van", "x"]
        part = cars.get("van")
        assert (part.name, part.config, part.build) == ("van", Car, Car)

    @pytest.mark.parametrize("name", ["", "Van", "van_", "_van", "1van", "mini van", "van-2", "é"])
    def test_names_that_would_not_do_as_names(self, name: str) -> None:
        cars: Registry[Car] = Registry("car", "cars")
        with pytest.raises(ValueError, match="must be lower-case"):
            cars.register(name, config=Car, build=Car)

    def test_a_name_is_given_once(self) -> None:
        cars: Registry[Car] = Registry("car", "cars")
        cars.register("van", config=Car, build=Car)
        with pytest.raises(KeyError, match="registered already"):
            cars.register("van", config=Car, build=Car)

    def test_unknown_names_are_answered_with_the_known_ones(self) -> None:
        cars: Registry[Car] = Registry("car", "cars")
        cars.register("van", config=Car, build=Car)
        cars.register("bus", config=Car, build=Car)
        with pytest.raises(ConfigError, match=r"unknown car 'boat'; known are bus, van"):
            cars.get("boat")

    def test_built_in_parts_and_entry_points_load_at_the_first_look_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cars: Registry[Car] = Registry("car", "cars", builtin=("made_up_cars",))
        module = ModuleType("made_up_cars")
        loaded: list[str] = []

        class Point:
            def load(self) -> None:
                loaded.append("point")
                cars.register("kit", config=Car, build=Car)

        def points(group: str) -> list[Point]:
            assert group == "fedpeft.cars"
            return [Point()]

        monkeypatch.setitem(sys.modules, "made_up_cars", module)
        monkeypatch.setattr(registry, "entry_points", points)
        assert loaded == []
        assert cars.names() == ["kit"]
        assert cars.names() == ["kit"]
        assert loaded == ["point"]

    def test_a_part_that_cannot_be_imported_is_told_every_time(self) -> None:
        cars: Registry[Car] = Registry("car", "cars", builtin=("no_such_module_of_cars",))
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="no_such_module_of_cars"):
                cars.get("van")

    def test_what_this_project_ships(self) -> None:
        from fedpeft.adapters import adapters
        from fedpeft.backbones import backbones
        from fedpeft.losses import losses

        assert {"full", "hash", "lora", "rq"} <= set(adapters.names())
        assert "fedmf" in backbones.names()
        assert {"bce", "bpr", "ials"} <= set(losses.names())


class TestConfig:
    def test_frozen_and_documented(self) -> None:
        car = Car()
        with pytest.raises(ValueError, match="frozen"):
            car.doors = 5  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (
                {"engine": {"powr": 3}},
                "unknown key 'car.engine.powr'; known keys here are fuel, power",
            ),
            ({"dors": 3}, "unknown key 'car.dors'; known keys here are doors, engine"),
            (
                {"engine": {"power": 0}},
                "car.engine.power = 0: input should be greater than or equal to 1",
            ),
            ({"engine": 3}, "car.engine = 3: must be a table of settings"),
            ({"doors": "many"}, "car.doors = 'many': input should be a valid integer"),
            ({"doors": 13}, "car: 13 doors bring bad luck, got 13"),
            ({"doors": 1.5}, "car.doors = 1.5: input should be a valid integer"),
        ],
    )
    def test_messages_name_key_value_and_what_is_allowed(
        self, values: dict[str, object], said: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(Car, values, "car")
        assert str(caught.value).startswith(said)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite_numbers_are_refused(self, value: float) -> None:
        class Scale(ConfigModel):
            weight: float = 1.0

        with pytest.raises(ConfigError, match="weight"):
            parse(Scale, {"weight": value})

    @pytest.mark.parametrize(
        ("text", "path", "value"),
        [
            ("a.b=3", ["a", "b"], 3),
            ("a = 'x y'", ["a"], "x y"),
            ("a.b=x y", ["a", "b"], "x y"),
            ("a=true", ["a"], True),
            ("a=[1, 2]", ["a"], [1, 2]),
            ("a=1e-3", ["a"], 0.001),
            ("a=b=c", ["a"], "b=c"),
            ("a=", ["a"], ""),
            ("a={b = 1}", ["a"], {"b": 1}),
        ],
    )
    def test_overrides(self, text: str, path: list[str], value: object) -> None:
        assert parse_override(text) == (path, value)

    @pytest.mark.parametrize("text", ["a.b", "=3", "a..b=3", ".a=1", ""])
    def test_overrides_that_are_none(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"must look like table\.key=value"):
            parse_override(text)

    def test_override_sets_nested_keys_in_place(self) -> None:
        values: dict[str, object] = {"a": {"b": 1, "c": 2}}
        override(values, ["a", "b"], 5)
        override(values, ["x", "y"], 6)
        assert values == {"a": {"b": 5, "c": 2}, "x": {"y": 6}}
        with pytest.raises(ConfigError, match=r"a\.b is a value, so a\.b\.z cannot"):
            override(values, ["a", "b", "z"], 1)

    def test_toml_files(self, tmp_path: Path) -> None:
        good, bad, binary = tmp_path / "good", tmp_path / "bad", tmp_path / "binary"
        good.write_text("[a]\nb = 1\n")
        bad.write_text("[a\n")
        binary.write_bytes(b"\xff\xfe\x00")
        assert read_toml(good) == {"a": {"b": 1}}
        for path, said in (
            (bad, "not valid TOML"),
            (binary, "not valid TOML"),
            (tmp_path / "none", "does not exist"),
            (tmp_path, "is a folder"),
        ):
            with pytest.raises(ConfigError, match=said) as caught:
                read_toml(path)
            assert str(path) in str(caught.value)


class TestSeeding:
    def test_same_name_same_numbers_others_not(self) -> None:
        names: list[tuple[str | int, ...]] = [
            (), ("a",), ("b",), ("a", "b"), ("b", "a"), ("a", 1), ("a", 2), ("a", 1, "b"),
        ]  # fmt: skip
        for make in (numpy_rng, torch_rng):
            drawn = []
            for seed in (0, 1):
                for name in names:
                    draws = []
                    for _ in range(2):
                        rng = make(seed, *name)
                        if isinstance(rng, torch.Generator):
                            draws.append(torch.rand(3, generator=rng).tolist())
                        else:
                            draws.append(rng.random(3).tolist())
                    assert draws[0] == draws[1]
                    drawn.append(tuple(draws[0]))
            assert len(set(drawn)) == 2 * len(names)

    def test_drawing_from_one_stream_moves_no_other(self) -> None:
        state = torch.random.get_rng_state()
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
        numpy_rng(0, "a").random(5)
        torch.rand(5, generator=torch_rng(0, "a"))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002

    def test_numbers_stay_the_same_between_releases(self) -> None:
        """A changed stream would make every published result irreproducible."""
        assert sequence(7, "round", 3, "cohort").generate_state(2).tolist() == [
            3649581213,
            3232849749,
        ]


class TestFiles:
    def test_atomic_path_replaces_only_when_all_went_well(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "file"
        write_text(target, "old")

        def fail() -> None:
            with atomic_path(target) as temporary:
                temporary.write_text("half")
                raise RuntimeError("power cut")

        with pytest.raises(RuntimeError, match="power cut"):
            fail()
        assert target.read_text() == "old"
        write_text(target, "new é")
        assert target.read_text(encoding="utf-8") == "new é"
        assert os.listdir(target.parent) == ["file"]

    @pytest.mark.parametrize(
        ("mask", "private", "mode"),
        [(0o022, False, 0o644), (0o077, False, 0o600), (0, False, 0o666), (0, True, 0o600)],
    )
    def test_permissions_are_never_wider_than_asked(
        self, mask: int, private: bool, mode: int, tmp_path: Path
    ) -> None:
        before = os.umask(mask)
        try:
            write_tensors(tmp_path / "new", {"x": torch.zeros(3)}, private=private)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode

    def test_a_full_disk_is_told_with_the_file(self, tmp_path: Path) -> None:
        """Whoever writes: Python, or a library in Rust."""
        code = (
            "import resource, sys, torch, polars; from pathlib import Path\n"
            "from fedpeft.files import atomic_path, write_tensors, write_text\n"
            "top = Path(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "def table():\n"
            "    with atomic_path(top / 'table') as path:\n"
            "        polars.DataFrame({'x': range(9999)}).write_parquet(path)\n"
            "for write in (table, lambda: write_text(top / 'text', 'x' * 9999),\n"
            "              lambda: write_tensors(top / 'tensors', {'x': torch.zeros(9999)})):\n"
            "    try: write()\n"
            "    except OSError as error: print(error.filename, error.strerror)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
        )
        names = ("table", "text", "tensors")
        assert done.stdout == "".join(f"{tmp_path / name} File too large\n" for name in names)
        assert os.listdir(tmp_path) == []

    def test_an_error_about_another_file_stays(self, tmp_path: Path) -> None:
        with (
            pytest.raises(FileNotFoundError, match="elsewhere"),
            atomic_path(tmp_path / "file"),
        ):
            (tmp_path / "elsewhere" / "x").read_text()

    def test_text_goes_without_torch(self) -> None:
        code = "import sys, fedpeft.files; print('torch' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"

    def test_json_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        write_json(path, {"b": [1, 2.5], "a": None})
        assert path.read_text() == json.dumps({"a": None, "b": [1, 2.5]}, indent=2) + "\n"
        assert read_json(path) == {"a": None, "b": [1, 2.5]}

    def test_json_without_numbers_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        with pytest.raises(ValueError, match="JSON"):
            write_json(path, {"a": float("nan")})
        assert os.listdir(tmp_path) == []

    def test_json_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "cut").write_text('{"a": ')
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        (tmp_path / "folder").mkdir()
        for name in ("cut", "binary", "folder", "missing"):
            with pytest.raises(ArtifactError, match=name):
                read_json(tmp_path / name)

    def test_tensors_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        table = torch.arange(12.0).view(3, 4)
        # views, transposes and tensors that share memory are all written in full
        tensors = {
            "view": table[1:, ::2],
            "turned": table.T,
            "same": table,
            "grad": table.clone().requires_grad_(),
            "whole": torch.tensor([1, 2]),
            "empty": torch.zeros(0, 3),
        }
        write_tensors(path, tensors, {"who": "me"})
        found = read_tensors(path)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        assert not found["grad"].requires_grad
        assert read_metadata(path) == {"who": "me"}
        write_tensors(path, {"x": torch.zeros(1)})
        assert read_metadata(path) == {}

    @pytest.mark.parametrize("read", [read_tensors, read_metadata])
    def test_tensor_files_that_are_none(self, read: object, tmp_path: Path) -> None:
        good = tmp_path / "good"
        write_tensors(good, {"x": torch.zeros(50)})
        (tmp_path / "cut").write_bytes(good.read_bytes()[:-3])
        (tmp_path / "short").write_bytes(good.read_bytes()[:5])
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "text").write_text("hello, this is no tensor file")
        (tmp_path / "folder").mkdir()
        for name in ("cut", "short", "empty", "text", "folder", "missing"):
            with pytest.raises(ArtifactError, match=name) as caught:
                read(tmp_path / name)  # type: ignore[operator]
            assert len(str(caught.value).splitlines()) == 1

    @given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
    def test_fingerprint_tells_lists_of_parts_apart(self, one: list[str], two: list[str]) -> None:
        assert (fingerprint(*one) == fingerprint(*two)) == (one == two)

    def test_fingerprint_sees_values_shapes_and_types(self) -> None:
        base = torch.arange(6.0)
        others = [
            base.view(2, 3),
            base.view(3, 2),
            base.double(),
            base.int(),
            base + 1e-6,
            base.flip(0),
        ]
        seen = {fingerprint(part) for part in (base, *others)}
        assert len(seen) == 1 + len(others)
        assert fingerprint(base) == fingerprint(base.numpy()) == fingerprint(base.clone())
        assert fingerprint(base.view(2, 3).T) == fingerprint(base.view(2, 3).T.contiguous())
        assert len(fingerprint()) == 64
