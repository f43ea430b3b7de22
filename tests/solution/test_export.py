"""Other formats: xarray comes with coordinates and units of meaning; the rest is refused in words."""

import sys

import numpy as np
import pytest

from pinnflow.errors import MissingExtra, NotYet, OutsideDomain, UnknownName


def test_a_dataset_holds_the_fields_on_the_grid(wave):
    x = np.linspace(0, 1, 5)
    data = wave.to_xarray(t=[0.1, 0.2, 0.3], x=x)
    assert data.u.dims == ("t", "x")
    np.testing.assert_array_equal(data.u.sel(t=0.2).values, wave(t=0.2, x=x))
    assert data.u.attrs["long_name"] == "u(t, x)"
    assert data.x.attrs["latex"] == "x"
    assert data.attrs["error_estimate"] == 3e-8


def test_the_default_grid_covers_the_domain(solution_of):
    data = solution_of("acoustics").to_xarray()
    assert set(data) == {"u", "v"}
    assert (float(data.x[0]), float(data.x[-1])) == (-2.0, 2.0)
    assert solution_of("plate").to_xarray(t=0.5).u.shape == (1, 101, 101)
    assert solution_of("acoustics")["v"].to_xarray(t=0.0).name == "v"


def test_a_dataset_survives_netcdf(wave, tmp_path):
    xarray = pytest.importorskip("xarray")
    data = wave.to_xarray(t=[0, 1], x=[0.25, 0.5])
    data.to_netcdf(tmp_path / "wave.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "wave.nc", engine="h5netcdf") as again:
        np.testing.assert_array_equal(again.u.values, data.u.values)


def test_grids_outside_or_of_unknown_axes_are_refused(wave):
    with pytest.raises(UnknownName, match=r"There is no coordinate `y`. Choose one of: t, x\."):
        wave.to_xarray(y=[0])
    with pytest.raises(OutsideDomain, match=r"`x` = 2.0 is above its bound"):
        wave.to_xarray(x=[0, 2])
    with pytest.raises(ValueError, match=r"`x` has shape \(1, 1\)"):
        wave.to_xarray(x=[[0.5]])


def test_without_xarray_the_extra_is_named(wave, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pinnflow-pde\[xarray\]'"):
        wave.to_xarray()


def test_formats_to_come_say_what_to_use_instead(wave):
    with pytest.raises(NotYet, match=r"to_netcdf"):
        wave.to_vtk("wave.vtk")
    with pytest.raises(NotYet, match=r"solution\.save"):
        wave.export("wave.onnx")
