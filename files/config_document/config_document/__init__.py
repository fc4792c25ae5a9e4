"""The one reader of `config.yaml`, for all who need it: application, runtime, tools' server and commands."""

from config_document.address import is_http_url
from config_document.document import ConfigFileError, Document, Layers, config_file, load, merged, read
from config_document.encoding import NotTextError, read_text
from config_document.model import MODEL_VARIABLES, ChosenModel, choose_model

__all__ = [
    "MODEL_VARIABLES",
    "ChosenModel",
    "ConfigFileError",
    "Document",
    "Layers",
    "NotTextError",
    "choose_model",
    "config_file",
    "is_http_url",
    "load",
    "merged",
    "read",
    "read_text",
]
