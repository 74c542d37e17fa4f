"""Metrics of a synthesised view, against independent implementations and values worked out by hand."""

from __future__ import annotations

import sys
from importlib import resources

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F
from torchvision.models import alexnet, vgg16

from spatialme.errors import SpatialmeError, WeightsError
from spatialme.evaluation import METRICS, Dists, Lpips, columns, measure, metrics
from spatialme.evaluation.features import alexnet_features
from spatialme.flow import forward_backward_valid
from spatialme.types import Motion
from tests.scenes import Layer, LayeredScene, Texture

FLOAT32 = 2e-6  # rounding of a mean of float32 values


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth_picture(height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """(1, 3, H, W) with structure at several sizes, as photographs have."""
    picture = torch.zeros(1, 3, height, width)
    for k in range(5):
        coarse = noise(1, 3, max(2, height >> k), max(2, width >> k), seed=seed + k)
        picture += F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False) / 5
    return picture.clamp(0, 1)


def numpy_picture(frame: torch.Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3) float64, as scikit-image takes it."""
    return frame.permute(1, 2, 0).double().numpy()


def square_hole(frames: int, height: int, width: int) -> torch.Tensor:
    hole = torch.zeros(frames, 1, height, width, dtype=torch.bool)
    hole[..., 20:30, 24:40] = True
    return hole


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames of truth and a prediction that is wrong here and there: (2, 3, 64, 80)."""
    truth = torch.cat([smooth_picture(64, 80, seed=s) for s in (1, 9)])
    return (truth + 0.1 * (noise(2, 3, 64, 80) - 0.5)).clamp(0, 1), truth


@pytest.fixture(scope="module")
def lpips_alex() -> Lpips:
    return Lpips()


@pytest.fixture(scope="module")
def vgg(tmp_path_factory) -> tuple[dict[str, torch.Tensor], str]:
    """Seeded VGG16 features, scaled so that activations neither vanish nor explode, and the folder of their file."""
    state = {}
    generator = torch.Generator().manual_seed(5)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None).features.state_dict().items()}
    for name, shape in shapes.items():
        if name.endswith("bias"):
            state[name] = torch.zeros(shape)
        else:
            state[name] = torch.randn(shape, generator=generator) * (2 / (shape[1] * 9)) ** 0.5
    folder = tmp_path_factory.mktemp("vgg")
    save_file({f"features.{name}": value for name, value in state.items()}, folder / "vgg16.safetensors")
    return state, folder


# ---- differences --------------------------------------------------------------------------------------------------


def test_independent_uniform_noise_scores_the_expected_values():
    # E[(a - b)^2] = 1/6 and E|a - b| = 1/3 for independent uniform a and b
    scores = measure(noise(2, 3, 256, 256), noise(2, 3, 256, 256, seed=1), noise(2, 3, 256, 256, seed=2), None)
    assert scores["psnr"] == pytest.approx(7.78, abs=0.05)
    assert scores["mae"] == pytest.approx(1 / 3, abs=0.002)  # 400,000 samples of deviation 0.24: 0.0004
    assert scores["rmse"] == pytest.approx((1 / 6) ** 0.5, abs=0.002)


def test_psnr_is_the_mean_over_frames_as_scikit_image_takes_it(pair):
    prediction, truth = pair
    prediction = torch.stack((prediction[0], truth[1] * 0.5))  # frames of very different quality
    wanted = [
        peak_signal_noise_ratio(t.double().numpy(), p.double().numpy(), data_range=1) for p, t in zip(prediction, truth)
    ]
    assert measure(prediction, truth, truth, None)["psnr"] == pytest.approx(np.mean(wanted), abs=1e-4)


def test_psnr_of_equal_pictures_is_finite(pair):
    _, truth = pair
    assert measure(truth, truth, truth, None)["psnr"] == 100


def test_ssim_agrees_with_scikit_image(pair):
    prediction, truth = pair
    hole = torch.zeros_like(truth[:, :1], dtype=torch.bool)
    hole[..., 5:-5, 5:-5] = True  # scikit-image mirrors its border in another way: compare inside
    wanted = [
        structural_similarity(
            numpy_picture(t), numpy_picture(p), channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )[1][5:-5, 5:-5].mean()
        for p, t in zip(prediction, truth)
    ]  # fmt: skip
    # variances are differences of float32 means of squares
    assert measure(prediction, truth, truth, hole)["ssim_hole"] == pytest.approx(np.mean(wanted), abs=1e-4)


def test_ms_ssim_agrees_with_a_slow_reference():
    truth = smooth_picture(180, 200, seed=3)
    prediction = (truth + 0.2 * (noise(1, 3, 180, 200) - 0.5)).clamp(0, 1)
    wanted = slow_ms_ssim(prediction[0].double().numpy(), truth[0].double().numpy())
    assert measure(prediction, truth, truth, None)["ms_ssim"] == pytest.approx(wanted, abs=1e-4)


def slow_ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang, Simoncelli and Bovik 2003, equation 7, on (3, H, W), halved by 2 x 2 means."""
    score = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        contrast, whole = [], []
        for a, b in zip(first, second):
            mean_a, mean_b, square_a, square_b, product = (
                ndimage.gaussian_filter(x, 1.5, truncate=3.5, mode="mirror") for x in (a, b, a * a, b * b, a * b)
            )
            variances = square_a - mean_a**2 + square_b - mean_b**2
            structure = (2 * (product - mean_a * mean_b) + 0.03**2) / (variances + 0.03**2)
            contrast.append(structure[5:-5, 5:-5].mean())
            whole.append((structure * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)).mean())
        score *= np.mean(whole if scale == 4 else contrast) ** weight
        first, second = (
            x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2].reshape(3, x.shape[1] // 2, 2, -1, 2).mean((2, 4))
            for x in (first, second)
        )
    return float(score)


# ---- regions ------------------------------------------------------------------------------------------------------


def test_regions_judge_their_own_pixels_only():
    truth = noise(1, 3, 64, 80) * 0.5
    hole = square_hole(1, 64, 80)
    distance = ndimage.distance_transform_cdt(~hole[0, 0].numpy(), metric="chessboard")
    border = torch.from_numpy((distance > 0) & (distance <= 8))[None, None]
    scores = measure(truth + 0.1 * hole + 0.01 * border, truth, truth, hole)
    assert scores["psnr_hole"] == pytest.approx(20, abs=1e-3)
    assert scores["psnr_border"] == pytest.approx(40, abs=1e-3)
    assert scores["mae_hole"] == pytest.approx(0.1, abs=FLOAT32)
    assert scores["rmse_border"] == pytest.approx(0.01, abs=FLOAT32)
    outside = 0.01 * float(border.sum() / (~hole).sum())
    assert scores["mae_outside"] == pytest.approx(outside, abs=FLOAT32)
    share = float(hole.float().mean())
    assert scores["mae"] == pytest.approx(share * 0.1 + (1 - share) * outside, abs=FLOAT32)


def test_the_border_is_eight_pixels_wide():
    truth = noise(1, 3, 64, 80) * 0.5
    hole = square_hole(1, 64, 80)
    distance = torch.from_numpy(ndimage.distance_transform_cdt(~hole[0, 0].numpy(), metric="chessboard"))[None, None]
    outermost = (distance == 8).sum() / ((distance > 0) & (distance <= 8)).sum()
    for ring, share in ((8, float(outermost)), (9, 0.0)):
        found = measure(truth + 0.1 * (distance == ring), truth, truth, hole)["mae_border"]
        assert found == pytest.approx(0.1 * share, abs=FLOAT32)


def test_regions_average_over_the_frames_that_have_them(pair):
    prediction, truth = pair
    hole = square_hole(2, 64, 80)
    both = measure(prediction, truth, truth, hole)
    hole[0] = False
    second = measure(prediction, truth, truth, hole)
    alone = measure(prediction[1:], truth[1:], truth[1:], hole[1:])
    assert second["psnr_hole"] == pytest.approx(alone["psnr_hole"], abs=1e-9)
    assert both["psnr_hole"] != pytest.approx(alone["psnr_hole"], abs=1e-3)


def test_an_empty_or_unknown_hole_leaves_its_columns_empty(pair, lpips_alex):
    prediction, truth = pair
    empty = measure(prediction, truth, truth, torch.zeros_like(truth[:, :1], dtype=torch.bool), lpips=lpips_alex)
    for name in ("mae", "psnr", "ssim", "lpips"):
        assert empty[f"{name}_hole"] is None
        assert empty[f"{name}_border"] is None
        assert empty[f"{name}_outside"] is not None
    unknown = measure(prediction, truth, truth, None)
    assert all(value is None for column, value in unknown.items() if column.endswith(("_hole", "_border", "_outside")))
    assert unknown["psnr"] is not None


# ---- perceptual ---------------------------------------------------------------------------------------------------


def test_lpips_agrees_with_an_independent_construction(pair, lpips_alex):
    prediction, truth = pair
    hole = square_hole(2, 64, 80)
    scores = measure(prediction, truth, truth, hole, lpips=lpips_alex)
    whole, maps = slow_lpips(prediction, truth)
    assert scores["lpips"] == pytest.approx(float(whole.mean()), abs=1e-5)
    in_hole = [float(frame[mask].mean()) for frame, mask in zip(maps, hole)]
    assert scores["lpips_hole"] == pytest.approx(np.mean(in_hole), abs=1e-5)


def slow_lpips(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Equation 1 of Zhang et al. by torchvision's AlexNet and the heads that torchmetrics carries."""
    with torch.device("meta"):
        network = alexnet(weights=None).features
    network.load_state_dict(alexnet_features(), assign=True)
    path = resources.files("torchmetrics.functional.image") / "lpips_models" / "alex.pth"
    heads = torch.load(path, "cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    a, b = ((2 * x - 1 - shift) / scale for x in (first, second))
    whole, maps, level = torch.zeros(len(a)), torch.zeros_like(a[:, :1]), 0
    with torch.no_grad():
        for layer in network:
            a, b = layer(a), layer(b)
            if not isinstance(layer, torch.nn.ReLU):
                continue
            difference = (F.normalize(a, dim=1) - F.normalize(b, dim=1)) ** 2
            distance = (difference * heads[f"lin{level}.model.1.weight"]).sum(1, keepdim=True)
            whole += distance.mean((1, 2, 3))
            maps += F.interpolate(distance, size=first.shape[2:], mode="bilinear")
            level += 1
    assert level == 5
    return whole, maps


def test_half_precision_features_keep_lpips(lpips_alex):
    # 0.05083 and 0.40632 are what these pictures gave on the float32 weights that the file was made from
    picture = smooth_picture(96, 128, seed=3)
    noisy = (picture + 0.2 * (noise(1, 3, 96, 128, seed=7) - 0.5)).clamp(0, 1)
    blurred = F.avg_pool2d(picture, 5, 1, 2, count_include_pad=False)
    assert float(lpips_alex(noisy, picture)[0]) == pytest.approx(0.05083, abs=0.001)
    assert float(lpips_alex(blurred, picture)[0]) == pytest.approx(0.40632, abs=0.001)


def test_lpips_downloads_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert Lpips().name == "alex"


def test_lpips_on_vgg_agrees_with_the_package(vgg, pair):
    prediction, truth = pair
    network = Lpips(vgg16_weights=vgg[1] / "vgg16.safetensors")
    reference = network._model(prediction, truth, normalize=True).flatten()  # its own forward pass
    scores = measure(prediction, truth, truth, None, lpips_vgg=network)
    assert network.name == "vgg"
    assert scores["lpips_vgg"] == pytest.approx(float(reference.mean()), abs=1e-5)
    assert scores["lpips"] is None


def test_dists_agrees_with_torchmetrics(vgg, pair, monkeypatch):
    from torchmetrics.functional.image import dists as theirs

    state, folder = vgg

    class LocalVgg:
        def __init__(self, **_):
            with torch.device("meta"):
                self.features = vgg16(weights=None).features
            self.features.load_state_dict(state, assign=True)

    monkeypatch.setattr(theirs, "vgg16", LocalVgg)
    prediction, truth = pair
    wanted = theirs.deep_image_structure_and_texture_similarity(prediction, truth).detach()
    scores = measure(prediction, truth, truth, None, dists=Dists(folder / "vgg16.safetensors"))
    # covariance is a difference of float32 means, taken in another order there
    assert scores["dists"] == pytest.approx(float(wanted.mean()), abs=1e-4)


def test_networks_refuse_files_that_are_not_vgg16(tmp_path):
    with pytest.raises(WeightsError, match=r"missing\.pth cannot be read as VGG16 weights \(FileNotFoundError\)"):
        Dists(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text\.pth cannot be read as VGG16 weights"):
        Lpips(vgg16_weights=tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text\.safetensors cannot be read"):
        Lpips(vgg16_weights=tmp_path / "text.safetensors")
    torch.save({"0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "alexnet.pth")
    with pytest.raises(WeightsError, match=r"alexnet\.pth holds no VGG16 features"):
        Lpips(vgg16_weights=tmp_path / "alexnet.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(WeightsError, match=r"tensor\.pth holds no VGG16 features"):
        Dists(tmp_path / "tensor.pth")


def test_absent_packages_are_named(monkeypatch, pair):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(SpatialmeError, match=r"lpips is not installed.*pip install lpips"):
        Lpips()
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(SpatialmeError, match=r"torchmetrics is not installed.*pip install torchmetrics"):
        measure(*pair, pair[1], None)


def test_frames_too_small_for_a_network_leave_its_column_empty(vgg, lpips_alex):
    networks = {"lpips": lpips_alex, "dists": Dists(vgg[1] / "vgg16.safetensors")}
    tiny = [noise(1, 3, 15, 40, seed=s) for s in range(3)]
    scores = measure(*tiny, None, **networks)
    assert (scores["lpips"], scores["dists"], scores["ms_ssim"]) == (None, None, None)
    least = [noise(1, 3, 32, 32, seed=s) for s in range(3)]
    scores = measure(*least, None, **networks)
    assert scores["lpips"] is not None
    assert scores["dists"] is not None


# ---- SIoU ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stripe() -> torch.Tensor:
    """Dark and light halves: one strong edge, nothing else. (1, 3, 40, 80), in whole levels."""
    picture = torch.full((1, 3, 40, 80), 50.0)
    picture[..., 60:] = 200
    return picture / 255


def level(count: int) -> float:
    return count / 255


def test_siou_of_agreeing_edges_and_half_agreeing_areas(stripe):
    left = stripe.clone()
    left[..., 10:30, 10:30] += level(20)  # too faint for an edge, displaced in the true view
    prediction = stripe.clone()
    prediction[..., 10:30, 20:30] += level(20)  # half of it equals the left view: IoU 1/2
    assert measure(prediction, stripe, left, None)["siou"] == pytest.approx(0.75 + 0.25 / 2)


def test_siou_counts_empty_unions_as_nought(stripe):
    # 3 levels below the left view is not displaced; an 8-bit subtraction would wrap around to 253
    assert measure(stripe, stripe, stripe + level(3), None)["siou"] == pytest.approx(0.75)
    flat = torch.full_like(stripe, 0.5)
    assert measure(flat, flat, flat, None)["siou"] == 0


def test_siou_weighs_red_and_blue_as_published(stripe):
    def displaced(channel: int) -> bool:
        left = stripe.clone()
        left[:, channel] += level(20)  # grey 2.3 with blue's weight, 6.0 with red's; the limit is 5
        return measure(stripe, stripe, left, None)["siou"] == pytest.approx(1)

    assert [displaced(channel) for channel in range(3)] == [False, True, True]


def test_siou_of_moved_edges(stripe):
    # Canny marks one column per edge; a shift by 5 columns leaves nothing in common, and area (60..65) against none
    moved = stripe.roll(-5, 3)
    moved[..., -5:] = stripe[..., -5:]
    assert measure(moved, stripe, stripe, None)["siou"] == 0


# ---- time ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moving() -> tuple[torch.Tensor, Motion]:
    """A right view whose every pixel moves by (2, -1) px per frame, and its true motion: (5, 3, 40, 50)."""
    scene = LayeredScene(50, 40, 5, (Layer(0.5, Texture(seed=3), velocity=(2.0, -1.0)),))
    forward, backward = scene.flow_right_forward.clone(), scene.flow_right_backward.clone()
    forward_valid, backward_valid = (
        forward_backward_valid(forward, -forward),
        forward_backward_valid(backward, -backward),
    )
    forward[-1], forward_valid[-1], backward[0], backward_valid[0] = 0, False, 0, False
    return scene.right, Motion(forward, backward, forward_valid, backward_valid)


def flashing(amount: float) -> torch.Tensor:
    return torch.tensor([0.0, amount, 0.0, amount, 0.0]).view(5, 1, 1, 1)


def test_motion_alone_costs_nothing(moving):
    right, motion = moving
    scores = measure(right, right, right, None, flow=motion)
    assert scores["e_warp"] == pytest.approx(0, abs=1e-9)  # whole pixels, so bilinear reading is exact
    assert scores["flicker"] == pytest.approx(0, abs=1e-5)
    still = Motion(motion.forward * 0, motion.backward * 0, motion.forward_valid, motion.backward_valid)
    assert measure(right, right, right, None, flow=still)["e_warp"] > 1e-3  # the flow is indeed followed


def test_flashing_costs_its_square_and_its_second_difference(moving):
    right, motion = moving
    scores = measure(right + flashing(0.1), right, right, None, flow=motion)
    assert scores["e_warp"] == pytest.approx(0.01, abs=1e-6)
    assert scores["flicker"] == pytest.approx(0.2, abs=1e-5)


def test_a_steady_fade_does_not_flicker(moving):
    right, motion = moving
    fade = 0.05 * torch.arange(5.0).view(5, 1, 1, 1)
    scores = measure(right + fade, right, right, None, flow=motion)
    assert scores["flicker"] == pytest.approx(0, abs=1e-5)
    assert scores["e_warp"] == pytest.approx(0.05**2, abs=1e-6)


def test_time_is_judged_by_region(moving):
    right, motion = moving
    hole = square_hole(5, 40, 50)
    inside = torch.zeros_like(hole)
    inside[..., 16:34, 20:44] = True  # wide enough for every neighbour of a hole's pixel
    scores = measure(right + flashing(0.1) * inside, right, right, hole, flow=motion)
    assert scores["flicker_hole"] == pytest.approx(0.2, abs=1e-5)
    assert scores["e_warp_hole"] == pytest.approx(0.01, abs=1e-6)
    assert 0 < scores["flicker_outside"] < 0.1


def test_flow_of_a_coarser_grid_is_enlarged(moving):
    right, motion = moving
    coarse = Motion(
        F.avg_pool2d(motion.forward, 2) / 2,
        F.avg_pool2d(motion.backward, 2) / 2,
        -F.max_pool2d(-motion.forward_valid.float(), 2) > 0.5,
        -F.max_pool2d(-motion.backward_valid.float(), 2) > 0.5,
    )
    assert measure(right, right, right, None, flow=coarse)["e_warp"] == pytest.approx(0, abs=1e-9)
    coarse = Motion(*(part > 2 if part.dtype == torch.bool else part for part in vars(coarse).values()))
    assert measure(right, right, right, None, flow=coarse)["e_warp"] is None  # nothing valid


def test_columns_over_time_are_empty_for_stills(moving):
    right, motion = moving
    over_time = {column for column, spec in columns().items() if spec.needs_time}
    disparity = torch.zeros(1, 1, 40, 50)
    short = Motion(*(part[:1] for part in vars(motion).values()))
    still = measure(right[:1], right[:1], right[:1], None, flow=short, disparity=disparity)
    without_flow = measure(right, right, right, None)
    assert all(still[column] is None and without_flow[column] is None for column in over_time)
    two = Motion(*(part[:2] for part in vars(motion).values()))
    pair = measure(right[:2], right[:2], right[:2], None, flow=two)
    assert pair["e_warp"] is not None
    assert pair["flicker"] is None


def test_disparity_flicker_is_told_in_percent_of_the_width(moving):
    right, motion = moving
    scores = measure(right, right, right, None, flow=motion, disparity=3 + flashing(1.0).expand(5, 1, 40, 50))
    assert scores["disparity_flicker"] == pytest.approx(2 / 50 * 100, abs=1e-4)


def test_disparity_flicker_does_not_look_into_holes(moving):
    right, motion = moving
    hole = square_hole(5, 40, 50)
    disparity = torch.where(hole, 1000 * noise(5, 1, 40, 50), 3.0)
    scores = measure(right, right, right, hole, flow=motion, disparity=disparity)
    assert scores["disparity_flicker"] == pytest.approx(0, abs=1e-4)


# ---- left against right -------------------------------------------------------------------------------------------


def test_detail_ratio_agrees_with_opencv(pair):
    _, left = pair
    right = F.avg_pool2d(left, 3, 1, 1, count_include_pad=False)

    def variance(frame: torch.Tensor) -> float:
        grey = cv2.cvtColor(numpy_picture(frame).astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64)
        return float(cv2.Laplacian(grey, cv2.CV_64F)[1:-1, 1:-1].var())

    wanted = np.mean([variance(r) / variance(a) for r, a in zip(right, left)])
    assert wanted < 0.5
    assert measure(right, left, left, None)["detail_ratio"] == pytest.approx(wanted, rel=1e-4)


def test_detail_ratio_leaves_holes_out(pair):
    _, left = pair
    hole = square_hole(2, 64, 80)
    clean = measure(left, left, left, hole)["detail_ratio"]
    dirty = measure(torch.where(hole, noise(2, 3, 64, 80), left), left, left, hole)["detail_ratio"]
    assert dirty == clean
    assert clean == pytest.approx(1, abs=0.1)  # the counted pixels are not quite all of them
    assert measure(left, left, torch.full_like(left, 0.5), hole)["detail_ratio"] is None


def test_level_shift_is_told_in_levels_whatever_its_sign(pair):
    _, left = pair
    darker_then_lighter = left * 0.5 + 0.25 + torch.tensor([-3 / 255, 3 / 255]).view(2, 1, 1, 1)
    scores = measure(darker_then_lighter, left, left * 0.5 + 0.25, None)
    assert scores["level_shift"] == pytest.approx(3, abs=1e-3)


# ---- the table ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(lpips_alex) -> dict[str, dict[str, float | None]]:
    """A moving clip judged as it is, with noise on top, and again with noise and one frame at a time."""
    scene = LayeredScene(192, 180, 3, (Layer(0.5, Texture(seed=3), velocity=(2.0, -1.0)),))
    forward, backward = scene.flow_right_forward, scene.flow_right_backward
    motion = Motion(
        forward, backward, forward_backward_valid(forward, -forward), forward_backward_valid(backward, -backward)
    )
    hole = square_hole(3, 180, 192)
    disparity = {"clean": torch.zeros(3, 1, 180, 192), "noisy": noise(3, 1, 180, 192)}
    left = scene.left.roll(8, 3)  # another picture of the same brightness and detail
    noisy = scene.right + 0.2 * noise(3, 3, 180, 192)

    def judge(prediction: torch.Tensor, name: str) -> dict[str, float | None]:
        return measure(prediction, scene.right, left, hole, flow=motion, disparity=disparity[name], lpips=lpips_alex)

    whole = judge(noisy, "noisy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK_PIXELS", 1)
        frame_by_frame = judge(noisy, "noisy")
    return {"clean": judge(scene.right, "clean"), "noisy": whole, "frame_by_frame": frame_by_frame}


@pytest.mark.parametrize("column", [c for c in columns() if not c.startswith(("lpips_vgg", "dists"))])
def test_every_column_prefers_the_truth_and_ignores_chunks(scored, column):
    clean, noisy = scored["clean"][column], scored["noisy"][column]
    assert columns()[column].better(clean, noisy)
    assert scored["frame_by_frame"][column] == pytest.approx(noisy, rel=1e-5)  # kernels may differ with the batch


def test_the_table_has_the_columns_of_the_report():
    wanted = "mae psnr ssim ms_ssim lpips psnr_hole lpips_hole psnr_border siou e_warp flicker detail_ratio level_shift"
    assert set(wanted.split()) <= set(columns())
    assert {name for name, spec in METRICS.items() if spec.needs_time} == {"e_warp", "flicker", "disparity_flicker"}


def test_better_reads_targets():
    assert METRICS["psnr"].better(30, 20)
    assert METRICS["mae"].better(0.1, 0.2)
    assert METRICS["detail_ratio"].better(0.98, 1.05)
    assert not METRICS["detail_ratio"].better(0.9, 0.9)


def test_autocast_around_does_not_change_values(pair):
    prediction, truth = pair
    plain = measure(prediction, truth, truth, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure(prediction, truth, truth, None) == plain


def test_ill_fitting_tensors_are_refused(pair, moving):
    prediction, truth = pair
    hole = square_hole(2, 64, 80)
    with pytest.raises(ValueError, match=r"prediction must be \(T, 3, H, W\) with T >= 1, got \(0, 3, 64, 80\)"):
        measure(prediction[:0], truth[:0], truth[:0], None)
    with pytest.raises(ValueError, match=r"prediction must be \(T, 3, H, W\)"):
        measure(prediction[:, :1], truth, truth, None)
    with pytest.raises(ValueError, match=r"truth must be \(2, 3, 64, 80\) as prediction is, got \(1, 3, 64, 80\)"):
        measure(prediction, truth[:1], truth, None)
    with pytest.raises(ValueError, match=r"left must be \(2, 3, 64, 80\)"):
        measure(prediction, truth, truth[..., 1:], None)
    with pytest.raises(ValueError, match=r"hole must be \(2, 1, 64, 80\)"):
        measure(prediction, truth, truth, hole[:1])
    with pytest.raises(ValueError, match=r"hole must be bool, got torch.float32"):
        measure(prediction, truth, truth, hole.float())
    with pytest.raises(ValueError, match=r"disparity must be \(2, 1, 64, 80\)"):
        measure(prediction, truth, truth, hole, disparity=torch.zeros(2, 64, 80))
    with pytest.raises(ValueError, match=r"flow must have one entry per frame, got 5 for 2 frames"):
        measure(prediction, truth, truth, hole, flow=moving[1])
