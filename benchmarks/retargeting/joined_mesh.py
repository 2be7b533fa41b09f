"""Meshes of several parts, which coal 3.0 reads wrong, read right with the library that it reads them by.

Where a node of a file has more than one part (a part per material), coal counts the corners of each part's
triangles from the first part's: triangles come out that no file has, across the whole mesh, and corners that
no triangle uses. Assimp, which coal comes with, joins the parts into one STL, and that coal reads right.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

import coal
import numpy as np

# aiProcess_Triangulate of assimp's postprocess.h
_TRIANGLES = 0x8
# As coal does: numbers of COLLADA files stay as they are, whichever axis is said to point up.
_KEEP_AXES = b"IMPORT_COLLADA_IGNORE_UP_DIRECTION"


def is_garbled(mesh: coal.BVHModelBase) -> bool:
    """Whether some corner belongs to no triangle: assimp gives coal only corners that do."""
    used = np.zeros(mesh.num_vertices, dtype=np.bool_)
    for k in range(mesh.num_tris):
        triangle = mesh.tri_indices(k)
        used[[triangle[0], triangle[1], triangle[2]]] = True
    return not bool(used.all())


def joined_mesh(file: Path, scale: np.ndarray) -> coal.BVHModelBase:
    """The mesh of a file with all its parts. Raises `ValueError` where assimp cannot read it."""
    library = _assimp()
    settings = library.aiCreatePropertyStore()
    library.aiSetImportPropertyInteger(settings, _KEEP_AXES, 1)
    scene = library.aiImportFileExWithProperties(str(file).encode(), _TRIANGLES, None, settings)
    library.aiReleasePropertyStore(settings)
    if not scene:
        raise ValueError(f"{file}: assimp cannot read it: {library.aiGetErrorString().decode()}")
    with tempfile.TemporaryDirectory() as folder:
        stl = Path(folder) / "joined.stl"
        failed = library.aiExportScene(scene, b"stlb", str(stl).encode(), 0)
        library.aiReleaseImport(scene)
        if failed:
            raise ValueError(f"{file}: assimp cannot join its parts: {library.aiGetErrorString().decode()}")
        mesh = coal.MeshLoader().load(str(stl), scale)
    if is_garbled(mesh):
        raise ValueError(f"{file}: coal reads triangles that are not in it")
    return mesh


def _assimp() -> ctypes.CDLL:
    """The assimp that coal was built with. Raises `ValueError` where it is not beside it."""
    for folder in Path(coal.__file__).parents:
        for found in sorted(folder.glob("libassimp.*")):
            library = ctypes.CDLL(str(found))
            pointer, text = ctypes.c_void_p, ctypes.c_char_p
            for name, result, arguments in (
                ("aiCreatePropertyStore", pointer, []),
                ("aiReleasePropertyStore", None, [pointer]),
                ("aiSetImportPropertyInteger", None, [pointer, text, ctypes.c_int]),
                ("aiImportFileExWithProperties", pointer, [text, ctypes.c_uint, pointer, pointer]),
                ("aiExportScene", ctypes.c_int, [pointer, text, text, ctypes.c_uint]),
                ("aiReleaseImport", None, [pointer]),
                ("aiGetErrorString", text, []),
            ):
                getattr(library, name).restype = result
                getattr(library, name).argtypes = arguments
            return library
    raise ValueError(f"assimp is not beside coal ({coal.__file__}, {sys.platform})")
