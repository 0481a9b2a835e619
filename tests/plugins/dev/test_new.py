"""`kafkaesk new`: what it makes passes its own checks and handles a message; what it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kafkaesk_core.cli import cli
from kafkaesk_dev.project import FILES

from .conftest import Project

pytestmark = pytest.mark.timeout(600)


def new(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["new", *arguments])


@pytest.mark.slow
def test_what_is_made_passes_every_step_of_its_workflow(project: Project) -> None:
    workflow = yaml.safe_load((project.folder / ".github/workflows/ci.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]

    install, *checks = commands
    done = {command: project.run(command) for command in checks}

    assert install == "pip install -e '.[dev]'"
    assert {each.split()[0] for each in checks} == {"ruff", "mypy", "kafkaesk", "pytest"}
    for command, result in done.items():
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    assert "2 passed" in done["pytest"].stdout
    assert "2 schemas, nothing is refused" in done[commands[4]].stdout


def test_its_workflow_refuses_a_change_of_a_frozen_message(project: Project) -> None:
    models = project.folder / "corner_shop/models.py"
    models.write_text(models.read_text().replace("article: str", "article: int"))

    done = project.run("kafkaesk schemas check corner-shop --format github")

    assert done.returncode == 2
    assert "Order:1" in done.stdout


def test_what_is_made_declares_what_it_uses_in_the_versions_that_it_was_made_with(
    project: Project,
) -> None:
    made = tomllib.loads((project.folder / "pyproject.toml").read_text())["project"]
    version = ">=0.1,<0.2"

    assert made["name"] == "corner-shop"
    assert made["dependencies"][0] == f"kafkaesk-core{version}"
    assert made["entry-points"]["kafkaesk.apps"] == {"corner-shop": "corner_shop.app:app"}


def test_no_placeholder_is_left_and_every_file_of_the_template_is_used(project: Project) -> None:
    placeholders = ("@name@", "@package@", "@core@")
    written = [path for path in project.folder.rglob("*") if path.is_file()]
    template = Path(__file__).parents[3] / "plugins/kafkaesk_dev/kafkaesk_dev/template"

    texts = "".join(path.read_text() for path in written)

    assert not any(each in texts for each in placeholders)
    assert {path.name for path in template.iterdir()} == {f"{name}.txt" for name in FILES.values()}


def test_its_container_runs_its_application_and_its_compose_file_gives_a_stop_its_time(
    project: Project,
) -> None:
    dockerfile = (project.folder / "Dockerfile").read_text()
    services = yaml.safe_load((project.folder / "compose.yml").read_text())["services"]

    assert 'CMD ["corner_shop.app:app"]' in dockerfile
    assert set(services) == {"corner-shop", "kafka"}
    assert services["corner-shop"]["stop_grace_period"] == "30s"  # shutdown_timeout is 25
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert services["corner-shop"]["environment"]["KAFKAESK_KAFKA_SERVERS"] in listeners


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("2shop", "begin with a letter, as in shop"),
        ("Corner Shop!", "as in corner-shop"),
        ("café", "as in cafe"),
        ("../shop", "as in shop"),
        ("-", "begin with a letter"),
        ("", "begin with a letter"),
        ("shop_", "as in shop"),
        ("a" * 51, "it has 51 characters; write at most 50"),
        ("class", "class is a keyword of Python"),
        ("queue", "queue is a module of Python's standard library"),
        ("plugins", "`kafkaesk plugins` is a command"),
        ("new", "`kafkaesk new` is a command"),
        ("schemas", "`kafkaesk schemas` is a command"),
        ("tests", "something else in the service is called so"),
        ("kafkaesk-core", "kafkaesk_core is an installed package"),
        ("pydantic", "pydantic is an installed package"),
    ],
)
def test_a_name_that_cannot_work_is_refused_with_the_reason(
    name: str, problem: str, tmp_path: Path
) -> None:
    refused = new("--out", str(tmp_path / "made"), "--", name)

    assert refused.exit_code == 2
    assert f"{name!r} cannot be the name of a service: " in refused.output
    assert problem in refused.output
    assert not (tmp_path / "made").exists()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    refused = new("shop", "--out", str(tmp_path))

    assert refused.exit_code == 2
    assert f"{tmp_path} exists and is not empty (notes.txt); nothing was written" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")

    refused = new("shop", "--out", str(tmp_path / "shop"))

    assert refused.exit_code == 2
    assert "cannot be used: Not a directory" in refused.output
    assert (tmp_path / "shop").read_text() == "mine"


def test_a_new_git_repository_is_filled(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    made = new("shop", "--out", str(tmp_path))

    assert made.exit_code == 0, made.output
    assert (tmp_path / "shop/app.py").exists()


def test_it_says_what_to_do_next(tmp_path: Path) -> None:
    made = new("shop", "--out", str(tmp_path / "shop"))

    assert f"made {tmp_path / 'shop'} ({len(FILES)} files). Next:" in made.output
    assert "pip install -e '.[dev]'" in made.output
