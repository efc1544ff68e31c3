"""Ready-made networks, with the layers, names and weights of Keras'."""

from minitorch_ciml.keras.applications import (
    imagenet_utils,
    mobilenet,
    mobilenet_v2,
    resnet,
    resnet50,
    resnet_v2,
    vgg16,
    vgg19,
)
from minitorch_ciml.keras.applications.mobilenet import MobileNet
from minitorch_ciml.keras.applications.mobilenet_v2 import MobileNetV2
from minitorch_ciml.keras.applications.resnet import ResNet50, ResNet101, ResNet152
from minitorch_ciml.keras.applications.resnet_v2 import ResNet50V2, ResNet101V2, ResNet152V2
from minitorch_ciml.keras.applications.vgg16 import VGG16
from minitorch_ciml.keras.applications.vgg19 import VGG19
