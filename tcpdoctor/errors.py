"""What can go wrong that is not an answer about the host.

    TcpdoctorError
        KernelReadError   the kernel answered in a way we do not understand
        RuleError         a rule file is wrong
        SnapshotError     a recording cannot be replayed
        ConfigError       the configuration file is wrong
        QuestionError     the user asked for something that does not exist
            UnknownRuleError  a rule that does not
        OutputError       the answer could not be written where the user wanted it
        DeadlineError     there was no answer in the time that the user gave

Each message is one line: what, where, what to do. Something that is merely absent is
no error but a value, `tcpdoctor.kernel.reading.Missing`.
"""


class TcpdoctorError(Exception):
    """Any failure that the user can act on; its text is one line, complete as it stands."""


class KernelReadError(TcpdoctorError):
    """The kernel answered in a way we do not understand: file, line, what was expected."""


class RuleError(TcpdoctorError):
    """A rule file is wrong: file, key, remedy."""

    key = ""
    """What is wrong in it, where that is one key; set where it is raised."""


class SnapshotError(TcpdoctorError):
    """A recording cannot be replayed: version, field."""


class ConfigError(TcpdoctorError):
    """The configuration file is wrong: file, key, remedy."""


class QuestionError(TcpdoctorError):
    """The user asked about something that does not exist: what, and the nearest that does."""


class UnknownRuleError(QuestionError):
    """There is no rule of a name that the user gave."""

    name = ""
    """What was given; set where it is raised, so that the error passes between processes."""


class OutputError(TcpdoctorError):
    """The answer could not be written: where, and why."""


class DeadlineError(TcpdoctorError):
    """There was no answer in the time that the user gave: after how long, and what was being done."""
