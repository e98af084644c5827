"""The system image: unless told otherwise the newest deep learning AMI, with the driver, Docker and the toolkit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.providers.aws.clients import Clients
from fleet.providers.aws.errors import translated
from fleet.providers.base import InvalidSpec, NotFound

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import BlockDeviceMappingTypeDef, ImageTypeDef

DEFAULT_IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    root_device: str
    smallest_root_gb: int  # its snapshot does not fit into less
    other_volumes: tuple[str, ...]  # devices of the volumes that it brings beside the root

    def mappings(self, root_volume_gb: int) -> list[BlockDeviceMappingTypeDef]:
        """All its volumes, each of which goes when the instance goes: not every image says that by itself."""
        root: BlockDeviceMappingTypeDef = {
            "DeviceName": self.root_device,
            "Ebs": {"VolumeSize": self.root_gb(root_volume_gb), "VolumeType": "gp3", "DeleteOnTermination": True},
        }
        others: list[BlockDeviceMappingTypeDef] = [
            {"DeviceName": device, "Ebs": {"DeleteOnTermination": True}} for device in self.other_volumes
        ]
        return [root, *others]

    def root_gb(self, wanted: int) -> int:
        return max(wanted, self.smallest_root_gb)


def look_up(clients: Clients, region: str, image: str) -> Image:
    """`image`: an AMI id, or the SSM parameter that holds one. Raises InvalidSpec if the region has no such image."""
    image_id = image if image.startswith("ami-") else _of_parameter(clients, region, image)
    try:
        with translated():
            answer = clients.ec2(region).describe_images(ImageIds=[image_id])
    except NotFound as error:
        raise InvalidSpec(f"{region} has no image {image_id}") from error
    if not answer.get("Images"):
        raise InvalidSpec(f"{region} has no image {image_id} that the account may use")
    return _image(answer["Images"][0])


def _of_parameter(clients: Clients, region: str, name: str) -> str:
    try:
        with translated():
            answer = clients.ssm(region).get_parameter(Name=name)
    except NotFound as error:
        raise InvalidSpec(f"{region} has no SSM parameter {name}, which is to name the image") from error
    return answer["Parameter"].get("Value", "")


def _image(found: ImageTypeDef) -> Image:
    root_device = found.get("RootDeviceName", "/dev/sda1")
    volumes = {
        mapping.get("DeviceName", ""): mapping["Ebs"]
        for mapping in found.get("BlockDeviceMappings", [])
        if "Ebs" in mapping
    }
    return Image(
        id=found.get("ImageId", ""),
        root_device=root_device,
        smallest_root_gb=volumes.get(root_device, {}).get("VolumeSize", 0),
        other_volumes=tuple(sorted(volumes.keys() - {root_device})),
    )
