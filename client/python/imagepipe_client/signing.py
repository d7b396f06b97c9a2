"""Signs the upload to the object store with temporary keys (AWS Signature Version 4), by botocore."""

from urllib.parse import quote

from imagepipe_client.documents import TemporaryKeys
from imagepipe_client.errors import ImagepipeError
from imagepipe_client.steps import Body, Progress, Request


def signed_put(keys: TemporaryKeys, key: str, content: bytes, progress: Progress | None) -> Request:
    """A PUT of an object. Raises ImagepipeError if botocore is not installed."""
    try:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError as error:
        raise ImagepipeError("uploads with temporary keys need botocore: install imagepipe-client[s3]") from error
    endpoint = (keys.endpoint_url or f"https://s3.{keys.region}.amazonaws.com").rstrip("/")
    url = f"{endpoint}/{keys.bucket}/{quote(key, safe='/~')}"
    signed = AWSRequest("PUT", url, data=content)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    S3SigV4Auth(credentials, "s3", keys.region).add_auth(signed)
    return Request("PUT", url, headers=dict(signed.headers.items()), body=Body(content, progress))
