"""The encoders that we name ourselves: a table of plain values, one line each.

Input sizes are those we score at. DINOv2 is scored at 224 px, as in the paper, though timm's default is
518: its position embedding is resampled when it is loaded. Each null dimension follows from how the encoder
ends, and is checked numerically whenever one is loaded.
"""

from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.encoders.spec import EncoderSpec as Row

PX48, PX64, PX224, PX256, PX448 = ((3, side, side) for side in (48, 64, 224, 256, 448))

CLS, MEAN, PROJ, ATTN, AVG = "class token", "mean", "projection", "attention", "average pool"

APACHE, MIT, NC, D3L = "Apache-2.0", "MIT", "CC-BY-NC-4.0", "DINOv3 License"

# Families with the paper of each.
SMALL, LE_PAPER = "small JEPA (sigreg)", "LeJEPA, arXiv:2511.08544"
TWIN, VI_PAPER = "small JEPA (vicreg)", "VICReg, arXiv:2105.04906"
UNTRAINED = "untrained"
DINO2, D2_PAPER = "DINOv2", "DINOv2, arXiv:2304.07193"
REG_PAPER = "Vision Transformers Need Registers, arXiv:2309.16588"
IJEPA, IJ_PAPER = "I-JEPA", "I-JEPA, arXiv:2301.08243"
META, MC_PAPER = "MetaCLIP", "Demystifying CLIP Data (MetaCLIP), arXiv:2309.16671"
CLIP, CL_PAPER = "CLIP", "Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020"
DINO3, D3_PAPER = "DINOv3", "DINOv3, arXiv:2508.10104"
SIGLIP, S2_PAPER = "SigLIP 2", "SigLIP 2, arXiv:2502.14786"
SUP, AUG_PAPER = "supervised", "How to train your ViT?, arXiv:2106.10270"
DEIT_PAPER = "DeiT III, arXiv:2204.07118"
RSB_PAPER = "ResNet strikes back, arXiv:2110.00476"
CNX_PAPER = "A ConvNet for the 2020s, arXiv:2201.03545"

PRESETS: tuple[EncoderSpec, ...] = (
    # id, name, family, D, (C, H, W), pooling, null dimension, licence, paper
    Row("demo:jepa-tiny", "jepa-tiny", SMALL, 16, PX48, AVG, 0, MIT, LE_PAPER),
    Row("demo:jepa-tiny-untrained", "jepa-tiny-untrained", UNTRAINED, 16, PX48, AVG, 0, MIT, LE_PAPER),
    Row("demo:jepa-small", "jepa-small", SMALL, 32, PX64, MEAN, 0, MIT, LE_PAPER),
    Row("demo:jepa-small-vicreg", "jepa-small-vicreg", TWIN, 32, PX64, MEAN, 0, MIT, VI_PAPER),
    Row("demo:jepa-small-untrained", "jepa-small-untrained", UNTRAINED, 32, PX64, MEAN, 0, MIT, LE_PAPER),
    Row("timm:vit_small_patch14_dinov2.lvd142m", "DINOv2 ViT-S/14", DINO2, 384, PX224, CLS, 2, APACHE, D2_PAPER),
    Row("timm:vit_base_patch14_dinov2.lvd142m", "DINOv2 ViT-B/14", DINO2, 768, PX224, CLS, 2, APACHE, D2_PAPER),
    Row("timm:vit_large_patch14_dinov2.lvd142m", "DINOv2 ViT-L/14", DINO2, 1024, PX224, CLS, 2, APACHE, D2_PAPER),
    Row("timm:vit_giant_patch14_dinov2.lvd142m", "DINOv2 ViT-g/14", DINO2, 1536, PX224, CLS, 2, APACHE, D2_PAPER),
    Row("timm:vit_small_patch14_reg4_dinov2.lvd142m", "DINOv2 S/14 reg", DINO2, 384, PX224, CLS, 2, APACHE, REG_PAPER),
    Row("timm:vit_base_patch14_reg4_dinov2.lvd142m", "DINOv2 B/14 reg", DINO2, 768, PX224, CLS, 2, APACHE, REG_PAPER),
    Row("timm:vit_large_patch14_reg4_dinov2.lvd142m", "DINOv2 L/14 reg", DINO2, 1024, PX224, CLS, 2, APACHE, REG_PAPER),
    Row("timm:vit_giant_patch14_reg4_dinov2.lvd142m", "DINOv2 g/14 reg", DINO2, 1536, PX224, CLS, 2, APACHE, REG_PAPER),
    Row("timm:vit_huge_patch14_gap_224.in1k_ijepa", "I-JEPA H/14 1k", IJEPA, 1280, PX224, MEAN, 1, NC, IJ_PAPER),
    Row("timm:vit_huge_patch14_gap_224.in22k_ijepa", "I-JEPA H/14 22k", IJEPA, 1280, PX224, MEAN, 1, NC, IJ_PAPER),
    Row("timm:vit_huge_patch16_gap_448.in1k_ijepa", "I-JEPA H/16 448 1k", IJEPA, 1280, PX448, MEAN, 1, NC, IJ_PAPER),
    Row("timm:vit_giant_patch16_gap_224.in22k_ijepa", "I-JEPA g/16 22k", IJEPA, 1408, PX224, MEAN, 1, NC, IJ_PAPER),
    Row("open_clip:ViT-B-32-quickgelu/metaclip_400m", "MetaCLIP B/32 400M", META, 512, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-B-16-quickgelu/metaclip_400m", "MetaCLIP B/16 400M", META, 512, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-L-14-quickgelu/metaclip_400m", "MetaCLIP L/14 400M", META, 768, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-B-32-quickgelu/metaclip_fullcc", "MetaCLIP B/32 2.5B", META, 512, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-B-16-quickgelu/metaclip_fullcc", "MetaCLIP B/16 2.5B", META, 512, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-L-14-quickgelu/metaclip_fullcc", "MetaCLIP L/14 2.5B", META, 768, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-H-14-quickgelu/metaclip_fullcc", "MetaCLIP H/14 2.5B", META, 1024, PX224, PROJ, 0, NC, MC_PAPER),
    Row("open_clip:ViT-B-32-quickgelu/openai", "CLIP ViT-B/32", CLIP, 512, PX224, PROJ, 0, MIT, CL_PAPER),
    Row("open_clip:ViT-B-16-quickgelu/openai", "CLIP ViT-B/16", CLIP, 512, PX224, PROJ, 0, MIT, CL_PAPER),
    Row("open_clip:ViT-L-14-quickgelu/openai", "CLIP ViT-L/14", CLIP, 768, PX224, PROJ, 0, MIT, CL_PAPER),
    Row("timm:vit_small_patch16_dinov3.lvd1689m", "DINOv3 ViT-S/16", DINO3, 384, PX256, CLS, 2, D3L, D3_PAPER),
    Row("timm:vit_base_patch16_dinov3.lvd1689m", "DINOv3 ViT-B/16", DINO3, 768, PX256, CLS, 2, D3L, D3_PAPER),
    Row("timm:vit_large_patch16_dinov3.lvd1689m", "DINOv3 ViT-L/16", DINO3, 1024, PX256, CLS, 2, D3L, D3_PAPER),
    Row("timm:vit_huge_plus_patch16_dinov3.lvd1689m", "DINOv3 ViT-H+/16", DINO3, 1280, PX256, CLS, 2, D3L, D3_PAPER),
    Row("timm:vit_7b_patch16_dinov3.lvd1689m", "DINOv3 ViT-7B/16", DINO3, 4096, PX256, CLS, 2, D3L, D3_PAPER),
    Row("open_clip:ViT-B-16-SigLIP2/webli", "SigLIP 2 B/16", SIGLIP, 768, PX224, ATTN, 0, APACHE, S2_PAPER),
    Row("open_clip:ViT-L-16-SigLIP2-256/webli", "SigLIP 2 L/16 256", SIGLIP, 1024, PX256, ATTN, 0, APACHE, S2_PAPER),
    Row("open_clip:ViT-SO400M-14-SigLIP2/webli", "SigLIP 2 So400m/14", SIGLIP, 1152, PX224, ATTN, 0, APACHE, S2_PAPER),
    Row("timm:vit_small_patch16_224.augreg_in1k", "AugReg ViT-S/16 1k", SUP, 384, PX224, CLS, 2, APACHE, AUG_PAPER),
    Row("timm:vit_small_patch16_224.augreg_in21k", "AugReg ViT-S/16 21k", SUP, 384, PX224, CLS, 2, APACHE, AUG_PAPER),
    Row("timm:vit_base_patch16_224.augreg_in1k", "AugReg ViT-B/16 1k", SUP, 768, PX224, CLS, 2, APACHE, AUG_PAPER),
    Row("timm:vit_base_patch16_224.augreg_in21k", "AugReg ViT-B/16 21k", SUP, 768, PX224, CLS, 2, APACHE, AUG_PAPER),
    Row("timm:deit3_small_patch16_224.fb_in1k", "DeiT III ViT-S/16", SUP, 384, PX224, CLS, 2, APACHE, DEIT_PAPER),
    Row("timm:resnet50.a1_in1k", "ResNet-50", SUP, 2048, PX224, AVG, 0, APACHE, RSB_PAPER),
    Row("timm:convnext_tiny.fb_in1k", "ConvNeXt-T", SUP, 768, PX224, AVG, 2, APACHE, CNX_PAPER),
)


def find_spec(encoder_id: str) -> EncoderSpec | None:
    """Look an encoder up in the table.

    Args:
        encoder_id: A full id, such as ``timm:vit_small_patch14_dinov2.lvd142m``.

    Returns:
        Its row, or None when it is not a preset.
    """
    return next((spec for spec in PRESETS if spec.id == encoder_id), None)
