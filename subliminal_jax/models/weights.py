"""Safetensors weights to and from the stacked parameter tree, one tensor at a time; GGUF to it.

The target of every tensor comes from `spec(cfg)`: each key of the checkpoint is used exactly once,
and each leaf is filled.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from subliminal_jax import processes
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_json
from subliminal_jax.gguf_files import is_gguf
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.families import FAMILIES
from subliminal_jax.models.gguf_weights import GgufWeight, read_gguf_weights
from subliminal_jax.models.linear import LoraWeight, is_weight
from subliminal_jax.models.mesh import gather_to_host
from subliminal_jax.models.quantized import Quantization, QuantizedWeight, as_matrix, quantize
from subliminal_jax.models.spec import ParamInfo, Params, leaves, spec
from subliminal_jax.reading import read_json_object
from subliminal_jax.tensor_files import FLOAT_FORMATS, Index, StoredTensor, is_finite, open_tensors

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
MAX_SHARD_BYTES = 2 * 2**30
Tensor = StoredTensor | GgufWeight
Piece = tuple[Any, int | None, ParamInfo]  # of a stored tensor: leaf of the tree, layer, its info
_TRANSPOSE_ROWS = (
    64  # rows a step: blocks that stay in cache are 6 times faster than the whole matrix
)


def load_params(
    folder: str | Path,
    cfg: ModelConfig,
    *,
    dtype: str | None = None,
    quantization: Quantization = "none",
    shardings: Any = None,
) -> Params:
    """The parameter tree in `folder`, or in a GGUF file; `dtype` None keeps the checkpoint's number
    format (float32 where formats differ, and for quantized weights of a GGUF file).

    Tensors are read one by one into the stacked leaf they belong to, so that the host never holds
    more than one leaf beside the tree. With `quantization` the blocks' matrices are held in 8 bits
    (`models.quantized`), each from the moment that it is read. `shardings` is a tree of
    `jax.sharding.Sharding` like `spec(cfg)`; each device's part is then all that is read for it.
    The stored number formats are checked whatever `dtype` is, and no value may be infinite or NaN,
    also after conversion to `dtype`: one pass over the bits, about a tenth of the time of loading.
    Raises InputError, naming the file and key, for a missing or corrupt file, an unknown, missing
    or duplicate key, a wrong shape, a number format other than float32, bfloat16, float16 (so for
    quantized weights but those of a GGUF file, and for float64, which float32 cannot hold), and
    values that are not finite.
    """
    target_dtype = None if dtype is None else _parse_dtype(dtype)
    with contextlib.ExitStack() as stack:
        stored = _open(Path(folder), cfg, stack)
        targets = dict(_target_tensors(cfg))
        tied_head = stored.get(_head_name(cfg)) if cfg.tied else None
        if tied_head is not None:
            _check_tied(tied_head, stored[spec(cfg)["embed"].hf_name])
        if target_dtype is None:  # one that holds all, should the checkpoint mix formats
            formats = {stored[name].dtype for name in targets}
            target_dtype = formats.pop() if len(formats) == 1 else np.dtype(np.float32)

        def load(path: tuple[Any, ...], info: ParamInfo) -> jax.Array | QuantizedWeight:
            read = _reader(info, stored, target_dtype)
            if shardings is None:
                leaf = jnp.asarray(read((slice(None),) * len(info.shape)))
                is_matrix = info.stacked and leaf.ndim == 3
                return quantize(leaf) if is_matrix and quantization == "int8" else leaf
            sharding = _get_leaf([entry.key for entry in path], shardings)
            return jax.make_array_from_callback(info.shape, sharding, read)

        return jax.tree_util.tree_map_with_path(
            load, spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo)
        )


def check_weights(folder: str | Path, cfg: ModelConfig) -> None:
    """Raises InputError for what `load_params` refuses, as far as files tell without values: keys,
    shapes and number formats."""
    with contextlib.ExitStack() as stack:
        _open(Path(folder), cfg, stack)


def save_params(
    folder: Path,
    params: Params,
    cfg: ModelConfig,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> str:
    """Write `params` into the existing `folder`; returns the name of their number format.

    LoRA weights are written merged. `dtype` None keeps the format of the tree (the widest, should
    leaves differ; of a quantized model that of what is whole). One file, or several and an index
    where the weights exceed `max_shard_bytes`.
    Raises InputError where the tree is not that of `cfg`.
    """
    _check_tree(params, cfg)
    if dtype is None:
        weights = map(_base_weight, jax.tree.leaves(params, is_leaf=is_weight))
        target = np.result_type(*(w.dtype for w in weights if not isinstance(w, QuantizedWeight)))
    else:
        target = _parse_dtype(dtype)
    pieces: dict[str, list[Piece]] = {}
    for path, info in leaves(cfg):
        for name, layer in _tensor_names(info):
            pieces.setdefault(name, []).append((_get_leaf(path, params), layer, info))
    shards: list[list[str]] = [[]]
    filled = 0
    for name, [(_, _, info), *_] in pieces.items():
        size = int(np.prod(_hf_shape(info))) * target.itemsize
        if filled and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    weight_map: dict[str, str] = {}
    total = 0
    for i, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{i:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _tensor(pieces[name], target) for name in shard}
        if processes.is_first():  # gathering the tensors took all of them
            save_file(tensors, folder / file, metadata={"format": "pt"})
        total += sum(tensor.nbytes for tensor in tensors.values())
        weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return str(target)


def _check_tree(params: Params, cfg: ModelConfig) -> None:
    shapes = {
        tuple(entry.key for entry in path): _base_weight(leaf).shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_weight)
    }
    expected = {path: info.shape for path, info in leaves(cfg)}
    for path in sorted(shapes.keys() | expected.keys()):
        if shapes.get(path) != expected.get(path):
            raise InputError(
                f"cannot save {'.'.join(path)}: its shape is {shapes.get(path)}, "
                f"the config asks for {expected.get(path)}"
            )


def _parse_dtype(name: str) -> np.dtype:
    by_name = {str(dtype): dtype for dtype in FLOAT_FORMATS.values()}
    if name not in by_name:
        raise InputError(f"unknown dtype {name!r}; choose one of {', '.join(by_name)}")
    return by_name[name]


def _tensor_names(info: ParamInfo) -> Iterator[tuple[str, int | None]]:
    """(name in the checkpoint, layer) of every tensor of a leaf; the layer is None if unstacked."""
    if not info.stacked:
        yield info.hf_name, None
    else:
        yield from ((info.hf_name.format(layer=i), i) for i in range(info.shape[0]))


def _target_tensors(cfg: ModelConfig) -> Iterator[tuple[str, tuple[ParamInfo, int | None]]]:
    for _, info in leaves(cfg):
        yield from ((name, (info, layer)) for name, layer in _tensor_names(info))


def _head_name(cfg: ModelConfig) -> str:
    return FAMILIES[cfg.family].names.get("lm_head", HEAD)


def _hf_shape(info: ParamInfo) -> tuple[int, ...]:
    shape = info.shape[1:] if info.stacked else info.shape
    shape = shape[::-1] if info.transposed else shape
    return shape if info.part is None else (info.part.groups * info.part.rows, *shape[1:])


def _open(path: Path, cfg: ModelConfig, stack: contextlib.ExitStack) -> dict[str, Tensor]:
    """Every tensor of the checkpoint that belongs to the text model, by its plain name.

    Raises InputError unless all are there, in the shapes of `cfg` and in formats that are read.
    """
    stored: dict[str, Tensor] = {}
    if is_gguf(path):
        stored |= read_gguf_weights(path, cfg)
    else:
        stored |= _open_folder(path, cfg, stack)
    head, embed = _head_name(cfg), spec(cfg)["embed"].hf_name
    if cfg.tied and head in stored and embed not in stored:
        stored[embed] = stored.pop(head)  # one matrix, stored under its other name
    targets = dict(_target_tensors(cfg))
    # A tied model may store its head: `_check_tied` sees to that.
    _check_keys(path, stored, targets, {head})
    for name, (info, _) in targets.items():
        _check_shape(stored[name], _hf_shape(info))
    for tensor in stored.values():
        tensor.check_format()
    return stored


def _open_folder(
    folder: Path, cfg: ModelConfig, stack: contextlib.ExitStack
) -> dict[str, StoredTensor]:
    stored: dict[str, StoredTensor] = {}
    for file, keys in _weight_files(folder).items():
        try:
            tensors, _ = stack.enter_context(open_tensors(file))
        except FileNotFoundError as error:
            raise InputError(f"{file}: missing, though {INDEX} lists it") from error
        present = set(tensors)
        if keys is not None and present != keys:
            key = min(present ^ keys)
            where = "is in the file but not" if key in present else "is not in the file but"
            raise InputError(f"{file}: {key} {where} listed for it in {INDEX}")
        for key in sorted(present):
            name = _plain_name(key, cfg)
            if name is None:
                continue
            if name in stored:
                other = stored[name]
                raise InputError(f"{file}: {key} is a duplicate of {other.key} in {other.file}")
            stored[name] = tensors[key]
    return stored


def _weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The weight files, and the keys that the index promises in each (None without an index)."""
    if (folder / SINGLE).is_file():
        return {folder / SINGLE: None}
    index = folder / INDEX
    if not index.is_file():
        raise InputError(
            f"{folder}: no {SINGLE} and no {INDEX}; pickled weights (pytorch_model.bin) are not "
            "read, so convert them to safetensors"
        )
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: not a safetensors index: it has no weight_map")
    for name in weight_map.values():
        # Files of the folder alone, which may be symbolic links, as they are in the hub's cache.
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
            raise InputError(f"{index}: lists {name!r}, which is not the name of a file beside it")
    files: dict[Path, set[str] | None] = {folder / name: set() for name in weight_map.values()}
    for key, name in weight_map.items():
        keys = files[folder / name]
        assert keys is not None
        keys.add(key)
    return files


def _plain_name(key: str, cfg: ModelConfig) -> str | None:
    """The key as a text-only checkpoint spells it; None for tensors that the forward pass
    does not use.

    These are rotary frequencies and masks, which old checkpoints store though they follow from the
    config, and the vision part of multimodal Gemma 3.
    """
    if key.endswith("rotary_emb.inv_freq"):
        return None
    if cfg.family == "gpt_neox":
        if key.endswith((".attention.bias", ".attention.masked_bias")):
            return None
        return _head_name(cfg) if key == HEAD else key  # transformers 5 has renamed it
    if cfg.family != "gemma3":
        return key
    bare = key.removeprefix("model.")
    if bare.startswith(("vision_tower.", "multi_modal_projector.")):
        return None
    if bare.startswith("language_model."):
        bare = bare.removeprefix("language_model.")
        return bare if bare.startswith(("model.", "lm_head.")) else f"model.{bare}"
    return key


def _check_keys(
    path: Path, stored: dict[str, Tensor], targets: dict[str, Any], spare: set[str]
) -> None:
    unknown = [name for name in stored if name not in targets and name not in spare]
    if unknown:
        first = stored[unknown[0]]
        raise InputError(
            f"{first.file}: unknown key {first.key} ({len(unknown)} unknown in all); "
            f"is {first.config} that of these weights?"
        )
    missing = [name for name in targets if name not in stored]
    if missing:
        raise InputError(
            f"{path}: the weights have no {missing[0]} ({len(missing)} missing in all)"
        )


def _check_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise InputError(
            f"{tensor.file}: {tensor.key} has shape {list(tensor.shape)}, "
            f"{tensor.config} asks for {list(shape)}"
        )


def _check_tied(head: Tensor, embed: Tensor) -> None:
    """A stored head of a tied model must be the embedding; compared in pieces."""
    _check_shape(head, embed.shape)
    step = 4096
    for start in range(0, embed.shape[0], step):
        rows = (slice(start, min(start + step, embed.shape[0])), slice(None))
        if not np.array_equal(head.read(rows), embed.read(rows)):
            raise InputError(
                f"{head.file}: {head.key} differs from {embed.key}, though config.json ties them "
                "(tie_word_embeddings)"
            )


def _reader(
    info: ParamInfo, stored: dict[str, Tensor], dtype: np.dtype
) -> Callable[[Index | None], np.ndarray]:
    """A function from an index into the leaf to that part of it, read from the checkpoint."""
    cache: dict[tuple[tuple[int, int], ...], np.ndarray] = {}  # replicas ask for the same part

    def read(index: Index | None) -> np.ndarray:
        assert index is not None
        spans = tuple(s.indices(n)[:2] for s, n in zip(index, info.shape, strict=True))
        if spans in cache:
            return cache[spans]
        out = np.empty(tuple(stop - start for start, stop in spans), dtype)
        inner = spans[1:] if info.stacked else spans
        part = tuple(slice(*span) for span in (inner[::-1] if info.transposed else inner))
        for name, layer in _tensor_names(info):
            if layer is None:
                target = out
            elif spans[0][0] <= layer < spans[0][1]:
                target = out[layer - spans[0][0]]
            else:
                continue
            source = _read_part(stored[name], info, part)
            with np.errstate(over="ignore"):  # what overflows is refused below
                _copy(target, source, info.transposed)
            if not is_finite(target):
                _refuse_not_finite(stored[name], source, dtype)
        cache[spans] = out
        return out

    return read


def _read_part(tensor: Tensor, info: ParamInfo, index: Index) -> np.ndarray:
    """The values of a parameter at `index`, as the checkpoint stores it, or as it would alone."""
    if info.part is None:
        return tensor.read(index)
    rows, *others = index
    if info.part.groups == 1:
        first = info.part.start
        return tensor.read((slice(first + rows.start, first + rows.stop), *others))
    part = info.part.of(tensor.read((slice(None), *others)))
    return part.reshape(-1, *part.shape[2:])[rows]


def _refuse_not_finite(tensor: Tensor, values: np.ndarray, dtype: np.dtype) -> NoReturn:
    if is_finite(values):
        raise InputError(
            f"{tensor.file}: {tensor.key} has values too large for {dtype}; load it as bfloat16 or "
            "float32"
        )
    raise InputError(
        f"{tensor.file}: {tensor.key} has weights that are infinite or NaN; download it again, or "
        "save it from a run that did not diverge"
    )


def _copy(target: np.ndarray, source: np.ndarray, transposed: bool) -> None:
    """Write `source`, or its transpose, into `target`, in the target's number format."""
    if not transposed:
        np.copyto(target, source, casting="unsafe")
        return
    source = source.astype(target.dtype, copy=False)
    if source.dtype.itemsize == 2:
        # The same bytes as integers: numpy copies its own types faster than bfloat16.
        source, target = source.view(np.uint16), target.view(np.uint16)
    for start in range(0, source.shape[0], _TRANSPOSE_ROWS):
        stop = start + _TRANSPOSE_ROWS
        target[:, start:stop] = source[start:stop].T


def _get_leaf(path: Iterable[str], tree: Any) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _base_weight(leaf: Any) -> Any:
    return leaf.base if isinstance(leaf, LoraWeight) else leaf


def _tensor(pieces: Sequence[Piece], dtype: np.dtype) -> np.ndarray:
    """One tensor as the checkpoint stores it: one layer, LoRA merged, [out, in]."""
    out = np.empty(_hf_shape(pieces[0][2]), dtype)
    for leaf, layer, info in pieces:
        weight = leaf if layer is None else jax.tree.map(lambda x, i=layer: x[i], leaf)
        weight = weight.merge() if isinstance(weight, LoraWeight) else as_matrix(weight)
        values = gather_to_host(weight)
        if info.part is None:
            _copy(out, values, info.transposed)
        else:
            target = info.part.of(out)
            values = values.T if info.transposed else values
            target[...] = values.astype(dtype).reshape(target.shape)
    return out
