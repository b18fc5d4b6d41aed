import pytest

from datamodules.base import DetectionDataModule
from detector.networks.network import Network
from detector.postprocess import Postprocess


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 500}, "data.num_workers must be 0 to 128, got 500"),
        ({"num_workers": -1}, "data.num_workers must be 0 to 128, got -1"),
        ({"image_size": 60000}, "the larger of data.image_size must be 1 to 16384, got 60000"),
        ({"batch_size": 10**9}, "data.batch_size must be 1 to 65536, got 1000000000"),
        ({"class_names": ["a"] * 20_000}, "the number of classes must be 1 to 10000, got 20000"),
    ],
)
def test_data_beyond_any_use_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionDataModule(**{"readers": {}, "class_names": ["a"], **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": -3}, "model.network: channels must be 8 to 2048, got -3"),
        ({"channels": 10**6}, "model.network: channels must be 8 to 2048, got 1000000"),
        ({"neck_depth": 10**5}, "model.network: neck_depth must be 0 to 32, got 100000"),
        ({"reg_max": 10**6}, "model.network: reg_max must be 1 to 64, got 1000000"),
        ({"in_channels": 10**6}, "model.network: in_channels must be 1 to 64, got 1000000"),
    ],
)
def test_networks_beyond_any_use_are_refused_before_they_are_built(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(1, **options)


def test_so_are_numbers_of_detections() -> None:
    with pytest.raises(ValueError, match=r"postprocess.max_detections must be 1 to 100000, got -5"):
        Postprocess(max_detections=-5)
