"""What an engine would be made of here."""

from edge_agent.app.engine_build import recipe_for
from edge_agent.models import bare, onnx_file


def recipe_of(request):
    return recipe_for(request, bare.identify(request.model).sha256, onnx_file.read(request.model))
