"""The datasets that have a short name: a plain table for the command line, the pickers and the README."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One line of the table.

    Attributes:
        id: What a person types.
        target: The id that it stands for.
        name: Short name for a screen.
        description: What is in it, in one line.
        licence: Terms of use.
        needs: What must be there first: network, megabytes, an account.
    """

    id: str
    target: str
    name: str
    description: str
    licence: str
    needs: str


DATASETS = (
    DatasetEntry(
        "demo:photos",
        "demo:photos",
        "Demo photos",
        "Crops of seven colour photographs, from regions that the demo encoder never saw; class = photograph.",
        "see scikit-image and scikit-learn",
        "nothing",
    ),
    DatasetEntry(
        "demo:digits",
        "demo:digits",
        "Demo digits",
        "Handwritten digits of scikit-learn, ten classes.",
        "CC BY 4.0",
        "nothing",
    ),
    DatasetEntry(
        "demo:galaxies",
        "demo:galaxies",
        "Demo galaxies",
        "Sources cut out of scikit-image's Hubble deep field, three classes by brightness.",
        "public domain (NASA)",
        "nothing",
    ),
    DatasetEntry(
        "demo:histology",
        "demo:histology",
        "Demo histology",
        "Crops of stained tissue and of a retina: a hard case, since they look like photographs to a small encoder.",
        "see scikit-image",
        "nothing",
    ),
    DatasetEntry(
        "imagenet-1k",
        "hf:ILSVRC/imagenet-1k:validation",
        "ImageNet-1k",
        "50,000 photographs of 1,000 kinds of things: the validation set (…:train has 1.28 million).",
        "research only",
        "gated: accept the terms on its page and `hf auth login`; 6.7 GB download",
    ),
    DatasetEntry(
        "imagenet-a",
        "hf:barkermrl/imagenet-a:train",
        "ImageNet-A",
        "7,500 natural photographs of 200 ImageNet classes that fooled a ResNet-50.",
        "MIT",
        "0.7 GB download",
    ),
    DatasetEntry(
        "imagenet-r",
        "hf:axiong/imagenet-r:test",
        "ImageNet-R",
        "30,000 renditions of 200 ImageNet classes: paintings, toys, sketches, tattoos.",
        "MIT",
        "2 GB download",
    ),
    DatasetEntry(
        "mnist",
        "hf:ylecun/mnist:test",
        "MNIST",
        "10,000 handwritten digits, 28 px: the test set.",
        "MIT",
        "3 MB download",
    ),
    DatasetEntry(
        "galaxy10",
        "hf:matthieulel/galaxy10_decals:test",
        "Galaxy10 DECaLS",
        "1,774 galaxies of the DESI Legacy Surveys in ten shapes from Galaxy Zoo, 256 px: the test set.",
        "CC BY 4.0",
        "255 MB download",
    ),
    DatasetEntry(
        "cifar10",
        "hf:uoft-cs/cifar10:test",
        "CIFAR-10",
        "10,000 photographs of ten kinds of animals and vehicles, 32 px: the test set.",
        "research only",
        "24 MB download",
    ),
    DatasetEntry(
        "cifar100",
        "hf:uoft-cs/cifar100:test",
        "CIFAR-100",
        "10,000 photographs of a hundred kinds of things, 32 px: the test set.",
        "research only",
        "24 MB download",
    ),
    DatasetEntry(
        "svhn",
        "hf:ufldl-stanford/svhn/cropped_digits:test",
        "SVHN",
        "26,032 house numbers cropped to one digit, 32 px: the test set.",
        "non-commercial",
        "47 MB download",
    ),
    DatasetEntry(
        "textures",
        "torchvision:DTD:test",
        "Describable Textures",
        "1,880 textures under 47 adjectives, from banded to zigzagged: the test set.",
        "research only",
        "600 MB download",
    ),
)

SYNONYMS = {"dtd": "textures", "galaxy10-decals": "galaxy10"}

KINDS = (
    DatasetEntry(
        "folder:<path>",
        "folder:<path>",
        "Folder",
        "Image files, one sub-folder a class or all in one folder; also MNIST idx files.",
        "yours",
        "a folder",
    ),
    DatasetEntry(
        "parquet:<path>",
        "parquet:<path>",
        "Parquet",
        "A Parquet file or a folder of them: `image` (bytes, or a struct of bytes and path), and `label`.",
        "yours",
        "a file or folder",
    ),
    DatasetEntry(
        "hf:<owner>/<repository>[/<configuration>][:<split>]",
        "hf:<owner>/<repository>[/<configuration>][:<split>]",
        "Hugging Face hub",
        "Any image dataset of the hub; test, validation or train, whichever comes first, when no split is named.",
        "see its page",
        "network the first time; `hf auth login` when it is gated",
    ),
    DatasetEntry(
        "torchvision:<Name>[:<split>]",
        "torchvision:<Name>[:<split>]",
        "torchvision",
        "One of torchvision's classification sets, such as MNIST, CIFAR10, SVHN, DTD, Food101, Flowers102.",
        "see its page",
        "network the first time",
    ),
    DatasetEntry(
        "demo:<name>", "demo:<name>", "Demo", "Built in: photos, digits, galaxies, histology.", "see above", "nothing"
    ),
    DatasetEntry(
        "corrupted:<kind>:<severity>:<dataset id>",
        "corrupted:<kind>:<severity>:<dataset id>",
        "Corrupted",
        "Any other dataset under blur, noise, jpeg or occlusion of severity 1 to 5; same keys and classes.",
        "as the dataset's",
        "what the dataset needs",
    ),
)
