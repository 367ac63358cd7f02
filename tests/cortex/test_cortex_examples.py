"""What Cortex's users have: an iris trainer in both published shapes, on scikit-learn itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskapi_jupyter.service.service import Service

TRAINER = """
import os, pickle
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split


def train(config):
    iris = load_iris()
    train_x, test_x, train_y, test_y = train_test_split(iris.data, iris.target, random_state=config.get("seed", 0))
    model = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    print("accuracy: {:.2f}".format(model.score(test_x, test_y)))
    with open(os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], "model.pkl"), "wb") as file:
        pickle.dump(model, file)
"""

DEFINITION = """
- name: trainer
  kind: TaskAPI
  definition:
    path: task.py
  compute:
    cpu: 200m
    mem: 500Mi
"""

TASK = TRAINER + "\n\nclass Task:\n    def __call__(self, config):\n        train(config)\n"

POD = """
- name: trainer
  kind: TaskAPI
  pod:
    containers:
    - name: trainer
      image: quay.io/example/trainer:latest
      command: [python, main.py]
      compute: {cpu: 200m, mem: 512Mi}
"""

MAIN = (
    TRAINER
    + """

import json

with open(os.environ["TASKAPI_JOB_SPEC"]) as file:
    train(json.load(file)["config"])
"""
)


@pytest.mark.parametrize(
    ("configuration", "file", "source"),
    [(DEFINITION, "task.py", TASK), (POD, "main.py", MAIN)],
    ids=["0.28 definition", "0.42 pod"],
)
def test_the_iris_trainer(home: Path, tmp_path: Path, configuration: str, file: str, source: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "cortex.yaml").write_text(configuration)
    (project / file).write_text(source)
    service = Service()
    service.deploy(project / "cortex.yaml")
    job = service.submit("trainer", {"seed": 1}).wait(100)
    assert (job.status, job.reason) == ("succeeded", None), job.logs()
    name, _, accuracy = job.logs().splitlines()[-1].partition(": ")  # imports that take a second have a line, too
    assert name == "accuracy"
    assert float(accuracy) > 0.9
    assert [entry.path for entry in job.files()] == ["model.pkl"]
