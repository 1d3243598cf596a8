from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chipdemo.errors import DataError
from tests.tiny import draw_chip, draw_chips
from training.data import load_images
from training.folders import read_folder


def small(image):
    return np.asarray(image.resize((8, 8)))


def test_it_is_known_how_large_the_images_are(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=1)
    Image.new("RGB", (4000, 1000), "gray").save(tmp_path / "normal" / "wide.png")
    assert load_images(read_folder(tmp_path), small).side == 64


def test_an_unreadable_image_is_left_out_and_named(tmp_path):
    draw_chips(tmp_path, normal=15, abnormal=5)
    (tmp_path / "normal" / "broken.png").write_bytes(b"no image")
    (tmp_path / "normal" / ".hidden").write_bytes(b"")
    images = load_images(read_folder(tmp_path), small)
    assert images.pixels.shape == (20, 8, 8, 3)
    assert images.abnormal.sum() == 5
    (line,) = images.left_out
    assert "broken.png" in line and images.unreadable == (line,)


def test_more_than_one_unreadable_image_in_twenty_is_an_error(tmp_path):
    draw_chips(tmp_path, normal=15, abnormal=4)
    for name in ("a.png", "b.png"):
        (tmp_path / "normal" / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 21 .*a\.png: .*b\.png") as failure:
        load_images(read_folder(tmp_path), small)
    assert ".." not in str(failure.value) and ".;" not in str(failure.value)


def test_of_images_with_the_same_content_one_is_kept(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    draw_chip(0).save(tmp_path / "normal" / "again.bmp")  # of normal/0.png
    images = load_images(read_folder(tmp_path), small)
    assert len(set(images.sha256)) == len(images.sha256) == 5
    (line,) = images.left_out
    assert "again.bmp: same content as" in line and images.unreadable == ()


def test_the_same_image_in_both_classes_is_an_error_that_names_both(tmp_path):
    draw_chips(tmp_path, normal=3, abnormal=2)
    draw_chip(1).save(tmp_path / "abnormal" / "again.bmp")  # normal/1.png
    with pytest.raises(DataError, match=r"1 images .*again\.bmp \(abnormal\) and .*1\.png \(normal\)"):
        load_images(read_folder(tmp_path), small)


def test_images_of_one_class_are_an_error(tmp_path):
    draw_chips(tmp_path, normal=30, abnormal=1)
    (tmp_path / "abnormal" / "crack" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="30 normal and 0 abnormal"):
        load_images(read_folder(tmp_path), small)


def test_what_the_source_left_out_is_listed_too(tmp_path):
    data = replace(read_folder(draw_chips(tmp_path, 1, 1)), left_out=("chip 7: disagreement",))
    assert load_images(data, small).left_out == ("chip 7: disagreement",)


def test_images_are_decoded_as_they_are_served(tmp_path):
    draw_chips(tmp_path, normal=1, abnormal=1)
    turned = Image.new("RGB", (8, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "normal" / "turned.jpg", exif=exif)
    sizes = []
    load_images(read_folder(tmp_path), lambda image: sizes.append(image.size) or small(image))
    assert (4, 8) in sizes
