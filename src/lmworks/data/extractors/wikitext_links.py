"""What a link of MediaWiki shows: its label; nothing for pictures, categories and the same page in other languages."""

from collections.abc import Sequence

# The namespaces of pictures and of categories, by their English names and those of larger Wikipedias.
_LEFT_OUT = frozenset(
    "afbeelding archivo arquivo berkas bestand bild bilde billede datei datoteka dosiero dosya fichier ficheiro fil "
    "file fitxategi fitxer fișier fájl gambar grafika hình image imagem imagen imagine imatge immagine kuva kép media "
    "pilt plik resim slika soubor súbor tiedosto vaizdas αρχείο εικόνα датотека зображення изображение картинка слика "
    "файл קובץ תמונה تصویر صورة ملف پرونده ファイル 画像 图像 圖像 文件 檔案 그림 파일 "
    "catégorie categoria categorie category categoría kategori kategoria kategorie kategorija kategorio kategória "
    "luokka κατηγορία категорија категория категорія קטגוריה تصنيف رده カテゴリ 分类 分類 분류".split()
)
_LEFT_OUT_OF_TWO_WORDS = frozenset(("tập tin", "thể loại"))
# Codes of the languages that have a Wikipedia: `[[de:Titel]]` is a link at the side of the page, not in its text.
_LANGUAGES = frozenset(
    "aa ab ace ady af ak als am an ang ar arc ary arz as ast atj av avk awa ay az azb ba ban bar bcl be bg bh bi bjn "
    "bm bn bo bpy br bs bug bxr ca cdo ce ceb ch chr chy ckb co cr crh cs csb cu cv cy da de diq dsb dty dv dz ee el "
    "eml en eo es et eu ext fa ff fi fj fo fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gu gv ha hak haw "
    "he hi hif hr hsb ht hu hy hyw ia id ie ig ik ilo inh io is it iu ja jam jbo jv ka kaa kab kbd kbp kg ki kk kl km "
    "kn ko koi krc ks ksh ku kv kw ky la lad lb lbe lez lfn lg li lij lld lmo ln lo lt ltg lv mai mg mhr mi min mk ml "
    "mn mnw mr mrj ms mt mwl my myv mzn na nah nap nds ne new nia nl nn no nov nqo nrm nso nv ny oc olo om or os pa "
    "pag pam pap pcd pdc pfl pi pl pms pnb pnt ps pt qu rm rmy rn ro ru rue rw sa sah sat sc scn sco sd se sg sh shn "
    "si simple sk skr sl sm smn sn so sq sr srn ss st stq su sv sw szl szy ta tcy te tet tg th ti tk tl tn to tpi tr "
    "ts tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo wa war wo wuu xal xh xmf yi yo za zea zh zu "
    "bat-smg be-tarask be-x-old cbk-zam fiu-vro map-bms nds-nl roa-rup roa-tara zh-classical zh-min-nan zh-yue".split()
)


def link_text(parts: Sequence[str]) -> str:
    """The label of `[[target|label]]`, from its parts; empty for a link that shows no words."""
    target = parts[0].strip()
    prefix, colon, _ = target.partition(":")
    prefix = prefix.strip()
    if colon and prefix and (prefix in _LANGUAGES or _is_left_out(prefix)):
        return ""
    label = "|".join(parts[1:]).strip()
    return label or target.removeprefix(":").replace("_", " ").strip()


def _is_left_out(prefix: str) -> bool:
    name = prefix.replace("_", " ").lower()
    return name in _LEFT_OUT or name in _LEFT_OUT_OF_TWO_WORDS
