"""Whose certificates a remote engine may show, where that is not the system's choice."""

import ssl
from pathlib import Path

REMEDY = "it is a PEM file that holds -----BEGIN CERTIFICATE----- and the CA's certificate"


def trust_in(ca_file: Path) -> ssl.SSLContext:
    """Trusts what the CAs of the file have signed and nothing else, for the name in the URL.
    Raises ValueError where the file is missing, cannot be read or holds no certificate."""
    try:
        trust = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"the CA file {ca_file} is empty, damaged or not PEM; {REMEDY}") from error
    except FileNotFoundError as error:
        raise ValueError(f"there is no CA file {ca_file}; {REMEDY}") from error
    except OSError as error:
        raise ValueError(
            f"the CA file {ca_file} cannot be read ({error.strerror}); give a file, and to this "
            "process the right to read it"
        ) from error
    if not trust.cert_store_stats()["x509"]:  # only revocations, for instance
        raise ValueError(f"the CA file {ca_file} holds no certificate; {REMEDY}")
    return trust


def why_distrusted(error: ssl.SSLCertVerificationError, url: object) -> str:
    if error.verify_code in WRONG_NAME:
        return f"the certificate of {url} is for another name; give the name that it is for"
    return (
        f"the certificate of {url} is not one that is trusted here ({error.verify_message}); if "
        "a CA of your own signed it, give that CA's certificate as the CA file"
    )


WRONG_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
