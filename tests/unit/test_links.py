"""Links for customers: whoever has one may open it, and nobody can make one up."""

from apps.kit.links import is_signature_of, signed_url

PATH = "/v1/orders/7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55/invoice.pdf"


def test_a_signed_link_opens_its_own_path_only() -> None:
    address, _, signature = signed_url(PATH).partition("?signature=")
    assert address == f"http://127.0.0.1:8000{PATH}"
    assert is_signature_of(signature, PATH)
    assert not is_signature_of(signature, PATH.replace("invoice", "credit-note"))


def test_a_signature_that_was_made_up_opens_nothing() -> None:
    assert not is_signature_of("", PATH)
    assert not is_signature_of("ä" * 43, PATH)
