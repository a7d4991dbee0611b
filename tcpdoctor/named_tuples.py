"""``typing.NamedTuple`` whose constructor is compiled once for each number of fields, not for each kind.

A look imports a hundred kinds of records; the standard library compiles each constructor at import, a tenth
of the start of `check`. All else is as there, for type checkers as well.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or sys.version_info >= (3, 14):  # whose annotations are made when asked for
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    _FUNCTION = type(lambda: None)

    _TEMPLATES = {}

    def _constructor(name, fields, defaults, module):
        """Compiled once for each number of fields, which takes 30 us; the names are put in."""
        code = _TEMPLATES.get(len(fields))
        if code is None:
            names = "".join(f"_{number}, " for number in range(len(fields)))
            template = eval(f"lambda _cls, {names}: _make_tuple(_cls, ({names}))")  # noqa: S307
            code = _TEMPLATES[len(fields)] = template.__code__
        scope = {"_make_tuple": tuple.__new__, "__builtins__": {}, "__name__": module}
        code = code.replace(co_varnames=("_cls", *fields), co_name="__new__")
        constructor = _FUNCTION(code, scope, "__new__", tuple(defaults.values()))
        constructor.__qualname__ = f"{name}.__new__"
        return constructor

    def _make(cls, values):
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes):
        values, place_of = [*self], self._fields.index
        for name, value in changes.items():  # few of many fields
            try:
                values[place_of(name)] = value
            except ValueError:
                raise ValueError(f"Got unexpected field names: {[name]!r}") from None
        return self._make(values)

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        parts = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({parts})"

    def _arguments(self):
        return tuple(self)

    _SHARED = {
        "__slots__": (),
        "_make": classmethod(_make),
        "_replace": _replace,
        "_asdict": _asdict,
        "__repr__": _repr,
        "__getnewargs__": _arguments,
    }

    class _Record(type):
        """Makes the class of a record, which knows nothing of this one."""

        def __new__(meta, name, bases, body):
            if not bases:
                return type.__new__(meta, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body[field] for field in fields if field in body}
            if any(name.startswith("_") for name in fields) or [*defaults] != [
                *fields[len(fields) - len(defaults) :]
            ]:
                raise TypeError(f"{name}: fields begin with a letter, those with defaults come last")
            getters = {field: _tuplegetter(number, None) for number, field in enumerate(fields)}
            own = {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            if "__new__" not in body:
                own["__new__"] = _constructor(body["__qualname__"], fields, defaults, body["__module__"])
            kinds = tuple(tuple if base is NamedTuple else base for base in bases)
            return type(name, kinds, {**_SHARED, **body, **own, **getters})

    class NamedTuple(metaclass=_Record):
        """As ``typing.NamedTuple``."""
