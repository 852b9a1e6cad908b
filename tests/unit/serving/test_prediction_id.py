"""An id carries what feedback needs, and nobody but the service can make one."""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

import pytest

from serving.prediction_id import InvalidIdError, Signer

OLD, NEW, FOREIGN = (bytes([n]) * 32 for n in (1, 2, 3))
SIGNER = Signer([NEW], "loans", "0123456789ab")
NOW = 1_800_000_000.75
ALPHABET = ascii_uppercase + ascii_lowercase + digits + "-_"


def accepted(text: str, signer: Signer = SIGNER) -> bool:
    """Whether an id is read; any other exception than a refusal goes through."""
    try:
        signer.read(text)
    except InvalidIdError:
        return False
    return True


@pytest.mark.parametrize("prediction", [5.636, 0.1 + 0.2, -0.0, 5e-324, -1.7e308, math.pi])
def test_what_was_signed_is_read(prediction: float) -> None:
    """The prediction to the last bit, the version, the time in whole seconds."""
    read = SIGNER.read(SIGNER.sign(prediction, NOW))

    assert repr(read.prediction) == repr(prediction)
    assert read.version == "0123456789ab"
    assert read.time == 1_800_000_000
    assert len(read.nonce) == 8


def test_an_id_is_short_and_of_a_urls_letters() -> None:
    """It goes through URLs, logs and spreadsheets unchanged."""
    text = SIGNER.sign(5.6, NOW)

    assert set(text) <= set(ALPHABET)
    assert len(text) < 80


def test_no_two_ids_are_alike() -> None:
    """Equal predictions of one second have ids of their own, across refills of the nonces."""
    assert len({SIGNER.sign(5.6, NOW) for _ in range(2000)}) == 2000


def test_two_workers_make_different_ids() -> None:
    """The nonces are the system's randomness, not a counter."""
    twin = Signer([NEW], "loans", "0123456789ab")

    assert SIGNER.sign(5.6, NOW) != twin.sign(5.6, NOW)


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_id_is_refused(seed: int) -> None:
    """10,000 ids with letters changed, added, removed, swapped; none is accepted."""
    rng = Random(seed)  # noqa: S311 seeded, no secret
    for _ in range(1000):
        text = SIGNER.sign(rng.gauss(5, 1), NOW)
        at, letter = rng.randrange(len(text)), rng.choice(ALPHABET)
        other = rng.randrange(len(text))
        changed = rng.choice(
            (
                text[:at] + letter + text[at + 1 :],
                text[:at] + letter + text[at:],
                text[:at] + text[at + 1 :],
                text[:at],
                text[at:],
                text + letter * rng.randint(1, 4),
                text[:at] + text[other:],
                text.swapcase(),
                text[::-1],
            )
        )

        assert changed == text or not accepted(changed), (text, changed)


def test_every_bit_is_signed() -> None:
    """One changed bit, anywhere, is refused: in the format, the time, the prediction, the tag."""
    signed = urlsafe_b64decode(SIGNER.sign(5.6, NOW) + "==")
    for bit in range(len(signed) * 8):
        changed = bytearray(signed)
        changed[bit // 8] ^= 1 << bit % 8

        assert not accepted(urlsafe_b64encode(changed).rstrip(b"=").decode())


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "=", "A", "AA==", "A" * 76, "A" * 10_000, "\0", "π", "\ud800", "null", "1"),
        urlsafe_b64encode(bytes(100)).decode(),
    ],
    ids=ascii,
)
def test_what_is_no_id_is_refused(text: str) -> None:
    """Of any length, with any characters."""
    assert not accepted(text)


def test_an_id_has_one_spelling() -> None:
    """Or one prediction could have two labels: padding, spaces, +/ and loose bits are refused."""
    spellings = set()
    for _ in range(50):
        text = SIGNER.sign(5.6, NOW)
        spellings |= {text + "=", text + "==", text + "\n", " " + text, text[:9] + "\n" + text[9:]}
        plain = text.replace("-", "+").replace("_", "/")
        if plain != text:
            spellings.add(plain)
        if len(text) % 4:
            # The last letter has bits that no byte needs.
            last = ALPHABET.index(text[-1])
            spellings.add(text[:-1] + ALPHABET[last ^ 1])

    assert not any(map(accepted, spellings))


def test_keys_rotate() -> None:
    """A new key signs; ids of the old one are read for as long as it is listed."""
    before = Signer([OLD], "loans", "a")
    during = Signer([NEW, OLD], "loans", "b")
    after = Signer([NEW], "loans", "b")
    old, new = before.sign(5.6, NOW), during.sign(5.6, NOW)

    assert during.read(old).version == "a"
    assert during.read(new).version == "b"
    assert accepted(new, after)
    assert not accepted(old, after)
    assert not accepted(new, before)


@pytest.mark.parametrize(
    "other",
    [Signer([FOREIGN], "loans", "0123456789ab"), Signer([NEW], "cheese", "0123456789ab")],
    ids=["key", "model"],
)
def test_anothers_id_is_refused(other: Signer) -> None:
    """Of another key, and of another model that shares the secret."""
    assert not accepted(other.sign(5.6, NOW))


def test_any_replica_and_any_version_reads_an_id() -> None:
    """With the same keys: that is how labels reach a service that was updated since."""
    updated = Signer([NEW], "loans", "another")

    assert updated.read(SIGNER.sign(5.6, NOW)).version == "0123456789ab"


@pytest.mark.parametrize("key", [b"k" * 32, b"k" * 64, b"k" * 65, b"k" * 1000])
def test_keys_may_be_of_any_length(key: bytes) -> None:
    """BLAKE2b's own limit is 64 bytes; the whole of a longer secret counts."""
    signer, other = Signer([key], "loans", "a"), Signer([key[:-1] + b"x"], "loans", "a")

    assert accepted(signer.sign(5.6, NOW), signer)
    assert not accepted(signer.sign(5.6, NOW), other)
