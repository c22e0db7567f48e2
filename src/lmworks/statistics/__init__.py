"""Statistics of the house: scores with intervals, tests, agreement, correlation, paired comparisons."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.statistics.agreement import cohen_kappa, krippendorff_alpha
    from lmworks.statistics.correlation import kendall, rank_correlation, spearman
    from lmworks.statistics.intervals import (
        LEVEL,
        Clusters,
        Statistic,
        bootstrap_interval,
        wilson_interval,
    )
    from lmworks.statistics.scores import (
        difference_score,
        mean_score,
        quantile_score,
        ratio_score,
        sign,
    )
    from lmworks.statistics.significance import (
        holm,
        mcnemar,
        non_inferiority,
        paired_interval,
        paired_score,
        permutation_test,
    )
    from lmworks.statistics.strengths import bradley_terry

__getattr__, __all__ = lazy_exports(__name__, __file__)
