"""Workflows of ComfyUI as edits of a daemon: the same file, read here in place of by ComfyUI.

::

    workflow = read_workflow(document)                 # JSON, in the format of the API or of the page
    requests = requests_of(workflow, pictures, served) # one WorkflowRequest for each node that saves a picture
    for request in requests:
        client.edit(list(request.images), request.prompt, **request.options())

``pictures`` is a callable: it gets the name that a LoadImage node has (``cat.png``, ``sub/cat.png``,
``out.png [output]``), and returns what ``Client.edit`` takes as a picture, or raises an error of qied, usually
InvalidRequest. ``served`` is ``Served.of(await client.describe(), await client.loras())``; without it, nothing is
compared with a daemon.

``requests_of`` raises WorkflowRefused, an InvalidRequest whose ``problems`` are a tuple of NodeProblem: ``node_id``,
``class_type``, ``message``, ``remedy``, ``input``, and ``kind``, one of ``unsupported_node``,
``required_input_missing``, ``invalid_input`` and ``picture_missing``. ``examine`` tells requests and problems side by
side, as ComfyUI does, which runs what it can. ``read_workflow`` raises InvalidRequest for what is not a workflow.

A WorkflowRequest has ``node_id`` of its save node, ``filename_prefix``, ``images``, ``prompt``, every option as a
field, ``count`` for batches, ``compat`` (as the option takes it, for graphs of ComfyUI's own nodes), ``notes`` on what
each node became, and ``warnings``. ``UNDERSTOOD`` are the classes that mean something here. No torch, and Pillow only
where a picture has to be cropped or rid of its transparency.
"""

from qied_client.errors import WorkflowRefused
from qied_client.workflows.evaluating import NodeNote
from qied_client.workflows.files import FindPicture
from qied_client.workflows.reading import read_workflow
from qied_client.workflows.request import WorkflowRequest
from qied_client.workflows.requests import Examined, examine, requests_of
from qied_client.workflows.rules.table import PREVIEWS, SAVES, UNDERSTOOD
from qied_client.workflows.served import Served, comfyui_files
from qied_client.workflows.workflow import NodeProblem, Workflow

__all__ = [
    "PREVIEWS",
    "SAVES",
    "UNDERSTOOD",
    "Examined",
    "FindPicture",
    "NodeNote",
    "NodeProblem",
    "Served",
    "Workflow",
    "WorkflowRefused",
    "WorkflowRequest",
    "comfyui_files",
    "examine",
    "read_workflow",
    "requests_of",
]
