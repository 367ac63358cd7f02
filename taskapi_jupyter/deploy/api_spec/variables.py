"""Environment variables of a task: from the kernel, from ``.env`` and from the API."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import HIDDEN, masked, shorten

from .sections import scalar_text

#: What a task gets of the deploying kernel's environment: exact names, or beginnings that end with ``*``.
PASSED = (
    # who and where
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*"),
    # the interpreter and its libraries
    *("VIRTUAL_ENV", "CONDA_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "PYTHONPATH", "PYTHONHASHSEED"),
    *("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONWARNINGS"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "JAVA_HOME", "SPARK_HOME", "HADOOP_HOME", "R_HOME"),
    *("GDAL_DATA", "PROJ_DATA", "PROJ_LIB"),
    # accelerators and numbers of threads
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "ROCM_*", "ROCR_*", "HIP_*", "HSA_*", "OMP_*", "KMP_*", "MKL_*"),
    *("OPENBLAS_*", "BLIS_*", "GOTO_NUM_THREADS", "VECLIB_*", "NUMEXPR_*", "NUMBA_*", "RAYON_NUM_THREADS"),
    *("POLARS_MAX_THREADS", "LOKY_*", "JOBLIB_*", "MALLOC_*", "TOKENIZERS_PARALLELISM"),
    *(
        "TF_CPP_*",
        "TF_NUM_*",
        "TF_GPU_*",
        "TF_XLA_*",
        "TF_ENABLE_*",
        "TF_FORCE_*",
        "TF_DETERMINISTIC_OPS",
        "XLA_*",
        "JAX_*",
        "TORCH_*",
        "PYTORCH_*",
    ),
    # caches and data sets
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MPLCONFIGDIR"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"),
    *("TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "SENTENCE_TRANSFORMERS_HOME", "TRITON_CACHE_DIR"),
    *("KERAS_HOME", "TFDS_DATA_DIR", "TFHUB_CACHE_DIR", "NLTK_DATA", "SCIKIT_LEARN_DATA"),
    # experiment trackers: where runs go and how; neither what authenticates there nor what names one run
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"),
    *("MLFLOW_S3_ENDPOINT_URL", "MLFLOW_TRACKING_INSECURE_TLS"),
    *("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"),
    *("WANDB_MODE", "WANDB_DISABLED", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_DIR"),
    *("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_RUN_GROUP"),
    *("WANDB_JOB_TYPE", "WANDB_TAGS", "WANDB_SILENT", "WANDB_CONSOLE", "WANDB_LOG_MODEL", "WANDB_WATCH"),
    "TENSORBOARD_LOGGING_DIR",
    # the way to the network
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
)
#: What libraries take their number of threads or processes from; where cores were asked for, it is these.
COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"),
    *("POLARS_MAX_THREADS", "TF_NUM_INTRAOP_THREADS", "LOKY_MAX_CPU_COUNT", "PYTHON_CPU_COUNT"),
)
# A pattern never lets these through; their exact name in config.yaml does, but for TASKAPI_*.
_NEVER = ("JPY_*", "JUPYTER*", "MPLBACKEND", "IPYTHON*", "IPY_*")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(API_?)?KEY(_|$)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED = "TASKAPI_"
#: What only the build of an environment of packages gets of the deploying kernel's variables
_OF_BUILDS = ("UV_*", "PIP_*", "NETRC", "KEYRING*", "PYTHON_KEYRING_*")
#: Those of them that say for which interpreter, and where to
_NOT_OF_BUILDS = (
    *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT*", "UV_WORKING_DIR*", "UV_RUN_*", "UV_ENV_FILE", "UV_INTERNAL_*"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIREMENT", "PIP_EDITABLE"),
    *("PIP_REQUIRE_VIRTUALENV", "PIP_REPORT", "PIP_LOG", "UV_LOG*"),
)


def allowed_environ(environ: Mapping[str, str], extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables on the documented list, and those that ``extra`` names or patterns (``MY_*``) match."""
    patterns = (*PASSED, *extra)
    exact = frozenset(patterns)
    wild = tuple(pattern for pattern in patterns if "*" in pattern)
    return {name: value for name, value in environ.items() if _allowed(name, value, exact, wild)}


def _allowed(name: str, value: str, exact: frozenset[str], wild: tuple[str, ...]) -> bool:
    if not _NAME.fullmatch(name) or name.startswith(RESERVED) or "\0" in value:
        return False
    if name in exact:
        return True
    if _SECRET.search(name) or any(fnmatchcase(name, never) for never in _NEVER):
        return False
    return any(fnmatchcase(name, pattern) for pattern in wild)


def build_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which packages are found: where they come from, and with which credentials."""
    return {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, one) for one in _OF_BUILDS)
        and not any(fnmatchcase(name, one) for one in _NOT_OF_BUILDS)
        and "\0" not in value
    }


def own_environ(values: Mapping[str, Any], path: str) -> dict[str, str]:
    """Check the ``env`` of a configuration; numbers and booleans become text as YAML writes them."""
    result = {}
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"{path}: invalid variable name {shorten(name)}: use letters, digits and _, with no digit first"
            )
        if name.startswith(RESERVED):
            raise BadRequest(f"{path}: {shorten(name)} is reserved: use a name that does not begin with {RESERVED}")
        if not isinstance(value, str | int | float):  # the value is not shown: it may be a secret
            what = "and is empty" if value is None else f"not a {type(value).__name__}"
            raise BadRequest(f"{path}.{name} must be text, {what}")
        if "\0" in str(value):
            raise BadRequest(f"{path}.{name} contains a NUL character")
        if value == HIDDEN:
            raise BadRequest(f"{path}.{name} is {HIDDEN}, which stands for a value that is not shown: give the value")
        result[name] = scalar_text(value)
    return result


def hidden(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification as it is shown: without the values of its variables, which may be secrets.

    Of URLs in its requirements, the credentials are left out.
    """

    def without(section: Mapping[str, Any]) -> dict[str, Any]:
        shown = dict(section)
        if shown.get("env"):
            shown["env"] = dict.fromkeys(shown["env"], HIDDEN)
        if requirements := shown.get("requirements"):
            is_list = isinstance(requirements, list)
            shown["requirements"] = [*map(masked, requirements)] if is_list else masked(requirements)
        return shown

    shown = dict(spec)
    if "definition" in shown:
        shown["definition"] = without(shown["definition"])
    if "pod" in shown:
        shown["pod"] = {**shown["pod"], "containers": [without(one) for one in shown["pod"]["containers"]]}
    return shown


def dotenv(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Read a project's ``.env`` without interpolation; return its variables, and warnings."""
    file = folder / ".env"
    if not file.is_file():
        return {}, []
    from dotenv import dotenv_values

    try:
        read = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} can't be read: {error}") from None
    result, warnings = {}, []
    for name, value in read.items():
        if name.startswith(RESERVED):
            warnings.append(f".env: {name} is not passed to the task: names that begin with {RESERVED} are reserved")
        elif value is not None and _NAME.fullmatch(name) and "\0" not in value:
            result[name] = value
        else:
            warnings.append(f".env: {shorten(name)} is left out: it has no value, or its name is invalid")
    return result, warnings


def first_in_path(environ: Mapping[str, str], folder: str) -> str:
    """Return ``PATH`` with ``folder`` in front."""
    rest = [one for one in environ.get("PATH", os.defpath).split(os.pathsep) if one != folder]
    return os.pathsep.join([folder, *rest])
