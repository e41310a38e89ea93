"""The proxy that stands before S3: boto3 knows neither ALL_PROXY nor SOCKS."""

from typing import Any
from urllib.parse import urlsplit


def follow_proxy(client: Any) -> None:
    """Let a client of boto3 reach its server through the proxy that other clients would take.

    That is the one of HTTPS_PROXY (for an address with http, HTTP_PROXY), otherwise that of ALL_PROXY, unless
    NO_PROXY excepts the server. boto3 would pass over ALL_PROXY, and take `socks5://` for a host's name.
    """
    from botocore.httpsession import ProxyConfiguration
    from requests.utils import get_environ_proxies, select_proxy
    from urllib3.contrib.socks import SOCKSProxyManager

    url = client.meta.endpoint_url
    proxy = select_proxy(url, get_environ_proxies(url))
    if proxy is None:
        return
    session = client._endpoint.http_session  # which boto3 makes itself, and lets nobody choose
    if proxy.lower().startswith("socks"):
        session._proxy_config = ProxyConfiguration()
        session._manager = SOCKSProxyManager(proxy, **session._get_pool_manager_kwargs())
    else:
        session._proxy_config = ProxyConfiguration({urlsplit(url).scheme: proxy})
