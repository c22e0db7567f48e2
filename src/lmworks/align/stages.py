"""Stages that align models."""

from lmworks.stage import CHECKPOINT, MODEL_LIBRARIES, Stage

STAGES: dict[str, Stage] = {
    "align.offline": Stage(
        run="lmworks.align.stage_offline:offline",
        config="lmworks.align.config:OfflineConfig",
        version=7,
        purpose="teach a model what people and judges prefer, from rows: DPO",
        inputs=(CHECKPOINT,),
        libraries=MODEL_LIBRARIES,
        check="lmworks.align.stage_offline:read_rows",
    ),
    "align.online": Stage(
        run="lmworks.align.stage_online:online",
        config="lmworks.align.online_config:OnlineConfig",
        version=6,
        purpose="teach a model by rewards of what it says, or by ratings: GRPO and its relatives, PPO, online DPO",
        inputs=(CHECKPOINT,),
        libraries=MODEL_LIBRARIES,
        check="lmworks.align.stage_online:check",
        outside_digest="lmworks.align.stage_online:outside_digest",
    ),
    "align.critique_and_revision": Stage(
        run="lmworks.align.critique_and_revision:critique_and_revision",
        config="lmworks.align.config:CritiqueConfig",
        version=1,
        purpose="let a model criticise its answers by principles and revise them, as rows to learn from",
        libraries=MODEL_LIBRARIES,
        models=("base",),
        check="lmworks.align.critique_and_revision:check",
    ),
}
