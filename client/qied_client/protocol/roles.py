"""Which messages each side of a client connection may send."""

from qied_client.protocol import messages as m
from qied_client.protocol.codec import registry

FROM_CLIENT = registry(
    m.Hello,
    m.Ping,
    m.Pong,
    m.Bye,
    m.Put,
    m.Chunk,
    m.More,
    m.Get,
    m.Drop,
    m.Quote,
    m.Submit,
    m.Resume,
    m.Cancel,
    m.Release,
    m.Open,
    m.Undo,
    m.History,
    m.Close,
    m.Status,
    m.Control,
)

FROM_DAEMON = registry(
    m.Welcome,
    m.Ping,
    m.Pong,
    m.Bye,
    m.Failure,
    m.Want,
    m.More,
    m.Stored,
    m.Chunk,
    m.Drop,
    m.Quoted,
    m.Accepted,
    m.Resumed,
    m.Event,
    m.Result,
    m.Cancelling,
    m.Released,
    m.SessionState,
    m.Closed,
    m.StatusReport,
    m.Controlled,
)
