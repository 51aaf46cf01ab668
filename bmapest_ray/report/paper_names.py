"""What the methods of the paper's experiments are called in tables."""

PUBLISHED = "published"
TITLES = {
    PUBLISHED: "BMapEst, as published",
    "published-unet": "U-Net, as published",
    "published-clustering": "Clustering, as published",
    "paper": "BMapEst, run here (preset paper)",
    "paper-19": "BMapEst, run here from 19 brains, some mirrored",
    "best": "this package (preset best)",
    "unet-paper": "U-Net, the paper's recipe",
    "unet-strong": "U-Net, strong recipe",
}


def title_of(method: str) -> str:
    """Return a method's name for tables."""
    if method in TITLES:
        return TITLES[method]
    from bmapest_ray.baselines.catalogue import BASELINES

    return BASELINES[method].title if method in BASELINES else method
