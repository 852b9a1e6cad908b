"""An id contains everything that feedback needs, and only the service can create one."""

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
    """Return whether an id is accepted; any other exception than InvalidIdError is raised."""
    try:
        signer.read(text)
    except InvalidIdError:
        return False
    return True


@pytest.mark.parametrize("prediction", [5.636, 0.1 + 0.2, -0.0, 5e-324, -1.7e308, math.pi])
def test_a_signed_id_can_be_read(prediction: float) -> None:
    """The prediction is exact to the last bit, and the time is in whole seconds."""
    read = SIGNER.read(SIGNER.sign(prediction, NOW))

    assert repr(read.prediction) == repr(prediction)
    assert read.version == "0123456789ab"
    assert read.time == 1_800_000_000
    assert len(read.nonce) == 8


def test_an_id_is_short_and_safe_in_urls() -> None:
    """It passes through URLs, logs and spreadsheets unchanged."""
    text = SIGNER.sign(5.6, NOW)

    assert set(text) <= set(ALPHABET)
    assert len(text) < 80


def test_ids_are_unique() -> None:
    """Equal predictions within a second have different ids, also when nonces are refilled."""
    assert len({SIGNER.sign(5.6, NOW) for _ in range(2000)}) == 2000


def test_two_workers_create_different_ids() -> None:
    """Nonces are random numbers of the system, not a counter."""
    twin = Signer([NEW], "loans", "0123456789ab")

    assert SIGNER.sign(5.6, NOW) != twin.sign(5.6, NOW)


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_id_is_rejected(seed: int) -> None:
    """None of 10,000 ids with changed, added, removed or swapped letters is accepted."""
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
    """One changed bit is detected in the format, the time, the prediction and the tag."""
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
def test_a_text_that_is_no_id_is_rejected(text: str) -> None:
    """Texts of any length and with any characters are rejected."""
    assert not accepted(text)


def test_an_id_has_one_spelling() -> None:
    """Padding, spaces, +/ and unused bits are rejected, or a prediction could have two labels."""
    spellings = set()
    for _ in range(50):
        text = SIGNER.sign(5.6, NOW)
        spellings |= {text + "=", text + "==", text + "\n", " " + text, text[:9] + "\n" + text[9:]}
        plain = text.replace("-", "+").replace("_", "/")
        if plain != text:
            spellings.add(plain)
        if len(text) % 4:
            # The last letter has unused bits.
            last = ALPHABET.index(text[-1])
            spellings.add(text[:-1] + ALPHABET[last ^ 1])

    assert not any(map(accepted, spellings))


def test_keys_can_be_rotated() -> None:
    """A new key signs; ids of the old key are accepted while it is listed."""
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
def test_an_id_of_another_key_or_model_is_rejected(other: Signer) -> None:
    """Another model's id is rejected even if both models share the secret."""
    assert not accepted(other.sign(5.6, NOW))


def test_an_updated_service_accepts_earlier_ids() -> None:
    """Any replica and version with the same keys accepts an id."""
    updated = Signer([NEW], "loans", "another")

    assert updated.read(SIGNER.sign(5.6, NOW)).version == "0123456789ab"


@pytest.mark.parametrize("key", [b"k" * 32, b"k" * 64, b"k" * 65, b"k" * 1000])
def test_keys_can_have_any_length(key: bytes) -> None:
    """BLAKE2b is limited to 64 bytes, but all bytes of a longer key count."""
    signer, other = Signer([key], "loans", "a"), Signer([key[:-1] + b"x"], "loans", "a")

    assert accepted(signer.sign(5.6, NOW), signer)
    assert not accepted(signer.sign(5.6, NOW), other)
