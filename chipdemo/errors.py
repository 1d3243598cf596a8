"""The errors that Chip Inspector raises on purpose.

    ChipDemoError
    |- SettingsError          a flag or a CHIPDEMO_* variable that cannot be used
    |- TargetError            no threshold keeps the promise that is asked for
    |- ImageError             an image that cannot be inspected
    |  |- UnreadableImageError   not an image, damaged, or of a kind we do not read
    |  `- ImageTooLargeError     more pixels than the limit; refused from the header
    |- CheckpointError        a model folder or Hub repository that cannot be loaded
    |  `- CheckpointOutOfReachError  not now: the Hub does not answer, or training is at work
    |- HubError               nothing could be pushed to the Hub; what is here stays as it is
    |- DataError              training data that cannot be used
    |- AblationError          an ablation.json that cannot be used
    |- BatchError             a batch of images cannot be inspected, or its results not be kept
    |- LabelError             a label that cannot be kept
    |- ExchangeError          images or labels that cannot be taken in or written out
    |- JobError               a job that cannot be started, stopped or resumed
    |- JournalError           the journal of labels cannot be read or written
    |- BusyError              too many requests wait already
    |  `- StoppingError          the app is being stopped
    `- AccessError            a caller of the HTTP API who may not ask

A message says what is wrong, the value that was found, and what to do, in one or two short sentences
that may be shown to the person who caused it. ui/ alone turns them into gr.Error.
"""


class ChipDemoError(Exception):
    """Base of every error raised on purpose; its text may be shown to the user."""


class SettingsError(ChipDemoError):
    """A flag or CHIPDEMO_* variable has a value that cannot be used."""


class TargetError(ChipDemoError):
    """No threshold keeps the promise that is asked for; mostly, there are too few validation images."""


class ImageError(ChipDemoError):
    """An image cannot be inspected."""


class UnreadableImageError(ImageError):
    """Not an image, damaged, or of a kind that is not read."""


class ImageTooLargeError(ImageError):
    """More pixels than the limit; refused from the header, before decoding."""


class CheckpointError(ChipDemoError):
    """A model folder or Hub repository cannot be loaded."""


class CheckpointOutOfReachError(CheckpointError):
    """Not now: the Hub does not answer, or a training run is at work in the folder. Later may do."""


class HubError(ChipDemoError):
    """Nothing could be pushed to the Hub; what is on this machine stays as it is."""


class DataError(ChipDemoError):
    """Training data cannot be used."""


class AblationError(ChipDemoError):
    """An ablation.json cannot be used."""


class BatchError(ChipDemoError):
    """A batch of images cannot be inspected, or its results not be kept; what is there stays."""


class LabelError(ChipDemoError):
    """A label cannot be kept; nothing was written."""


class ExchangeError(ChipDemoError):
    """Images or labels cannot be taken in or written out; what is there stays as it is."""


class JobError(ChipDemoError):
    """A job cannot be started, stopped or resumed; what is there stays as it is."""


class JournalError(ChipDemoError):
    """The journal of labels cannot be read or written; what it holds is as it was."""


class BusyError(ChipDemoError):
    """Too many requests wait already; later may do."""


class StoppingError(BusyError):
    """The app is being stopped and accepts nothing new."""


class AccessError(ChipDemoError):
    """A caller of the HTTP API is not known, or may not ask."""
