import subprocess
import sys

import pytest

from orchestra.errors import InputError
from orchestra.models import open_model


@pytest.mark.parametrize("name", ["", "smollm2-135m-instruct", "local/", "/x"])
def test_a_name_without_provider_and_slash_is_refused_with_an_example(name):
    with pytest.raises(InputError, match="its provider, a slash and a name; did you mean 'local/"):
        open_model(name)


def test_the_first_part_names_the_plug_in_and_the_rest_is_the_model():
    with pytest.raises(InputError, match="weights of 'no-such-model' are not on this machine"):
        open_model("local/no-such-model")


def test_importing_the_package_loads_no_model_library():
    code = (
        "import sys, orchestra.models, orchestra.models.weights, orchestra.models.local, orchestra.cli.models;"
        "print(sorted({'torch', 'transformers', 'litellm', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
