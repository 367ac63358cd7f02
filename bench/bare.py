"""A Jupyter server extension with one bare authenticated handler: the cost of a POST without this package."""

import tornado.web
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join


class BareHandler(APIHandler):
    @tornado.web.authenticated
    async def post(self):
        self.finish('{"message": "ok"}')


def _load_jupyter_server_extension(serverapp):
    web = serverapp.web_app
    web.add_handlers(".*$", [(url_path_join(web.settings["base_url"], "bare"), BareHandler)])
